"""Data and quality measures for super-resolution: photos and their downscaled copies, PSNR and SSIM.

Images are RGB, uint8 (height, width, 3). As is usual in the field, quality is measured on the luma Y of BT.601 with its
range of 16 to 235, without a border of `scale` pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image

from tfqnas.errors import UserError

# Y of R, G, B from 0 to 255 (ITU-R BT.601).
_LUMA, _BLACK = np.array([65.481, 128.553, 24.966]) / 255, 16.0
_WINDOW = 11  # side of the window of SSIM, in pixels


def cropped(image: np.ndarray, scale: int) -> np.ndarray:
    """The image without the last rows and columns, so that height and width are multiples of `scale`."""
    height, width = (length - length % scale for length in image.shape[:2])
    return image[:height, :width]


def downscaled(high: np.ndarray, scale: int) -> np.ndarray:
    """Downscales an image by bicubic interpolation with antialiasing, rounded to 8 bits as a camera does.

    Args:
        high: uint8 (h, w, 3), which is cropped by `cropped(high, scale)` first.
        scale: a whole number.

    Returns:
        uint8 (h // scale, w // scale, 3).
    """
    return _resized(cropped(high, scale), high.shape[1] // scale, high.shape[0] // scale)


def bicubic(low: np.ndarray, scale: int) -> np.ndarray:
    """Upscales an image by bicubic interpolation, the baseline of super-resolution.

    Args:
        low: uint8 (h, w, 3).
        scale: a whole number.

    Returns:
        uint8 (scale h, scale w, 3).
    """
    return _resized(low, low.shape[1] * scale, low.shape[0] * scale)


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BICUBIC))


def luma(image: np.ndarray) -> np.ndarray:
    """The luma Y of an image uint8 (h, w, 3), float64 (h, w) from 16 to 235."""
    return _BLACK + image.astype(np.float64) @ _LUMA


def psnr_y(a: np.ndarray, b: np.ndarray, border: int) -> float:
    """Peak signal-to-noise ratio in dB, computed in float32; infinite for equal images.

    Args:
        a, b: uint8 (h, w, 3).
        border: width of the ignored border in pixels.

    Raises:
        ValueError: the images have different sizes, or only the border.
    """
    import tensorflow as tf

    return float(tf.image.psnr(*_inner(a, b, border), max_val=255.0))


def ssim_y(a: np.ndarray, b: np.ndarray, border: int) -> float:
    """Structural similarity (Wang et al., 2004), the mean over Gaussian windows of 11 x 11 pixels (deviation 1.5).

    Args:
        a, b, border: as in `psnr_y`. Windows lie within the border.

    Raises:
        ValueError: the images have different sizes, or no room for a window.
    """
    import tensorflow as tf

    a, b = _inner(a, b, border)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"ssim_y: expected at least {_WINDOW} pixels each way without border, received {a.shape[:2]}")
    return float(tf.image.ssim(a, b, max_val=255.0, filter_size=_WINDOW))


def _inner(a: np.ndarray, b: np.ndarray, border: int) -> list[np.ndarray]:
    """The luma of both images without the border, float32 (h, w, 1)."""
    if a.shape != b.shape or a.ndim != 3 or min(a.shape[:2]) <= 2 * border:
        raise ValueError(
            f"expected two images of one size with more than {2 * border} pixels each way, received "
            f"{a.shape} and {b.shape}"
        )
    inner = (x[border : x.shape[0] - border, border : x.shape[1] - border] for x in (a, b))
    return [luma(x)[..., np.newaxis].astype(np.float32) for x in inner]


def patches(
    photos: Sequence[np.ndarray], scale: int, size: int, batch: int, seed: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless batches of patches and their downscaled copies, rotated and mirrored at random.

    Photos are downscaled as a whole, and each gives patches in proportion to its number of pixels. A batch is a
    function of the seed and its number.

    Args:
        photos: list of uint8 (h, w, 3).
        scale: a whole number.
        size: height and width of the downscaled patches.
        batch: patches per batch.
        seed: int.
        start: number of the first batch.

    Returns:
        Iterator of `(low, high)`, float32 (batch, size, size, 3) and (batch, scale size, scale size, 3), both
        normalised as `(x - 128) / 128`.

    Raises:
        UserError: a photo is smaller than a patch, or there are no photos.
    """
    pairs = [(downscaled(photo, scale), cropped(photo, scale)) for photo in photos]
    for number, (low, _) in enumerate(pairs):
        if min(low.shape[:2]) < size:
            raise UserError(
                f"patches: expected photos of at least {size * scale} pixels each way, photo {number} has "
                f"{photos[number].shape[:2]}"
            )
    if not pairs:
        raise UserError("patches: expected at least one photo, received none")
    pixels = np.array([low.shape[0] * low.shape[1] for low, _ in pairs], float)
    return _batches(pairs, pixels / pixels.sum(), scale, size, batch, seed, start)


def _batches(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    shares: np.ndarray,
    scale: int,
    size: int,
    batch: int,
    seed: int,
    number: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        rng = np.random.default_rng((seed, number))
        lows, highs = [], []
        for photo in rng.choice(len(pairs), batch, p=shares):
            low, high = pairs[photo]
            top, left = (rng.integers(length - size + 1) for length in low.shape[:2])
            turns, mirror = int(rng.integers(4)), int(rng.integers(2))
            lows.append(_turned(low[top : top + size, left : left + size], turns, mirror))
            top, left, side = top * scale, left * scale, size * scale
            highs.append(_turned(high[top : top + side, left : left + side], turns, mirror))
        yield _normalized(np.stack(lows)), _normalized(np.stack(highs))
        number += 1


def _turned(image: np.ndarray, turns: int, mirror: int) -> np.ndarray:
    image = np.rot90(image, turns)
    return image[:, ::-1] if mirror else image


def _normalized(images: np.ndarray) -> np.ndarray:
    """float32 `(x - 128) / 128`, the same as `tfqnas.data.images.normalize` but without TensorFlow."""
    return (images.astype(np.float32) - 128.0) / 128.0
