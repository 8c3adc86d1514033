"""What the export of a super-resolution model needs: the model for one size of images, and crops of photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfqnas.errors import SettingError, UserError
from tfqnas.tasks import Given, SuperResolution

if TYPE_CHECKING:
    import keras

# Number of random crops of the test photos on which the file is compared.
COMPARED = 56
# Bytes that the crops for calibration may take.
_MEMORY = 8e9


def prepared(
    model: keras.Model, data_dir: str | None, size: tuple[int, int], count: int = 128
) -> tuple[keras.Model, Given]:
    """A model from pixels to pixels for images of one size, and crops of photos with it.

    Args:
        model: super-resolution `keras.Model`.
        data_dir: directory of the prepared photos.
        size: (height, width) of the input.
        count: number of crops for calibration, the training part of the examples.

    Raises:
        UserError: the model is not a super-resolution model, a photo is too small, or the crops take too much memory.
    """
    from tfqnas import zoo
    from tfqnas.data import photos
    from tfqnas.graph.reading import sites_of
    from tfqnas.zoo.super_resolution import scale_of

    if (scale := scale_of(model)) == 1:
        raise UserError(
            f"`model`: expected a super-resolution network for `dataset=photos`, which enlarges by DepthToSpace, "
            f"received {model.name}"
        )
    if (memory := 12 * count * size[0] * size[1] * (1 + scale**2)) > _MEMORY:  # float32 RGB, small and large
        raise UserError(
            f"`calibration_images={count}`: so many images of {size[0]} x {size[1]} take {memory / 1e9:,.0f} GB, "
            f"expected at most {_MEMORY / 1e9:.0f} GB: give fewer, or a smaller `input_size`"
        )
    if sites_of(model)[-1].quantizer is None:
        model = zoo.with_pixel_output(model)
    model = zoo.with_input_size(model, size)
    found = photos.load(data_dir)
    train = pairs(found.train, scale, size, count, seed=0)
    test = pairs(found.test, scale, size, COMPARED, seed=1)
    return model, Given(SuperResolution(scale=scale), train, test)


def pairs(
    photos: Sequence[np.ndarray], scale: int, size: tuple[int, int], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Crops of downscaled photos, float32 `(x - 128) / 128`, and the same crops of the photos, uint8.

    Args:
        photos: list of uint8 (h, w, 3), which are taken in turn.
        scale: the factor by which photos are downscaled.
        size: (height, width) of the crops of the downscaled photos.
        count: number of crops.
        seed: int.

    Raises:
        UserError: a photo is too small.
    """
    from tfqnas.data import restoration

    smaller = [restoration.downscaled(photo, scale) for photo in photos]
    if any(low.shape[0] < size[0] or low.shape[1] < size[1] for low in smaller):
        height, width = (min(low.shape[axis] for low in smaller) for axis in (0, 1))
        expected = f"at most {height},{width}, the smallest of the photos at 1/{scale} of their size"
        raise SettingError("input_size", expected, size)
    rng = np.random.default_rng((seed, 4))
    lows, highs = [], []
    for number in range(count):
        low = smaller[number % len(smaller)]
        top, left = (rng.integers(low.shape[axis] - size[axis] + 1) for axis in (0, 1))
        bottom, right = top + size[0], left + size[1]
        lows.append(low[top:bottom, left:right])
        highs.append(photos[number % len(smaller)][top * scale : bottom * scale, left * scale : right * scale])
    return (np.stack(lows).astype(np.float32) - 128.0) / 128.0, np.stack(highs)
