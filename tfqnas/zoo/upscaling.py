"""Upscales whole photos with a network, and measures the quality."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.data import restoration
from tfqnas.errors import UserError
from tfqnas.zoo.sizes import with_input_size
from tfqnas.zoo.super_resolution import scale_of

# Height and width of the low-resolution tiles that are computed at a time, which take 25 MB per 24 channels at scale 2.
TILE = 256


def upscaled(model: keras.Model, low: np.ndarray, tile: int = TILE) -> np.ndarray:
    """Upscales a photo with a network.

    A large photo is cut into tiles that overlap by the reach of the network, so that the result is the same as for the
    whole photo.

    Args:
        model: super-resolution `keras.Model`, quantized or not, for images of any size or of one.
        low: uint8 (h, w, 3).
        tile: height and width of the tiles in low-resolution pixels.

    Returns:
        uint8 (scale h, scale w, 3).
    """
    return _upscaled(_of_any_size(model), low, tile)


def score(model: keras.Model, photos: Sequence[np.ndarray], tile: int = TILE) -> dict[str, Any]:
    """Mean PSNR and SSIM on Y of photos that are downscaled and upscaled again, by a network and by interpolation.

    Args:
        model: super-resolution `keras.Model`.
        photos: list of uint8 (h, w, 3).
        tile: as in `upscaled`.

    Returns:
        `{"scale", "images", "psnr", "ssim", "bicubic_psnr", "bicubic_ssim", "photos"}`; "photos" has for each photo a
        list of psnr, ssim, bicubic psnr and bicubic ssim.
    """
    model, scale = _of_any_size(model), scale_of(model)
    rows = []
    for photo in photos:
        low, high = restoration.downscaled(photo, scale), restoration.cropped(photo, scale)
        found = (_upscaled(model, low, tile), restoration.bicubic(low, scale))
        rows.append([f(image, high, scale) for image in found for f in (restoration.psnr_y, restoration.ssim_y)])
    names = ("psnr", "ssim", "bicubic_psnr", "bicubic_ssim")
    means = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    return {"scale": scale, "images": len(rows), **means, "photos": rows}


def reach_of(model: keras.Model) -> int:
    """The reach of a network in low-resolution pixels: at most so far away pixels can affect a pixel of the result."""
    reach, factor = 0.0, 1
    for layer in model.layers:  # the sum over all convolutions is an upper bound for any path
        if hasattr(layer, "kernel_size"):
            reach += (max(layer.kernel_size) // 2) / factor
        factor *= getattr(layer, "block_size", 1)
    return math.ceil(reach)


def _of_any_size(model: keras.Model) -> keras.Model:
    if scale_of(model) == 1:
        raise UserError(f"{model.name}: expected a super-resolution network, which upscales by DepthToSpace")
    return model if model.input_shape[1:3] == (None, None) else with_input_size(model, None)


def _upscaled(model: keras.Model, low: np.ndarray, tile: int) -> np.ndarray:
    scale, reach = scale_of(model), reach_of(model)
    height, width = low.shape[:2]
    high = np.empty((height * scale, width * scale, low.shape[2]), np.uint8)
    pixels = (low.astype(np.float32) - 128.0) / 128.0
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            (above, below), (before, behind) = _seen(top, height, tile, reach), _seen(left, width, tile, reach)
            part = model(pixels[np.newaxis, above:below, before:behind], training=False)
            part = keras.ops.convert_to_numpy(part)[0, (top - above) * scale :, (left - before) * scale :]
            part = part[: tile * scale, : tile * scale]
            part = part[: (height - top) * scale, : (width - left) * scale]
            high[top * scale : (top + tile) * scale, left * scale : (left + tile) * scale] = _pixels(part)
    return high


def _seen(start: int, length: int, tile: int, reach: int) -> tuple[int, int]:
    """`(first, last + 1)` of the pixels along an axis that a tile from `start` needs."""
    return max(0, start - reach), min(length, start + tile + reach)


def _pixels(x: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(x * 128.0 + 128.0), 0, 255).astype(np.uint8)
