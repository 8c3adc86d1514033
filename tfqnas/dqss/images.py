"""Calibration images: whether they are what a model takes."""

import keras
import numpy as np

from tfqnas.errors import UserError


def checked(images: np.ndarray, model: keras.Model, batch_size: int, batches: int = 1) -> np.ndarray:
    """float32 (n, height, width, channels) of calibration images.

    Args:
        batch_size, batches: how many images there must be: batches of that size.

    Raises:
        UserError: for images of another size or with other channels than the model takes, fewer than these batches, or
            with values that no normalised image has.
    """
    images = np.asarray(images)
    expected = tuple(model.input_shape[1:])
    received = images.shape[1:]
    fits = len(expected) == len(received) and all(e in (None, r) for e, r in zip(expected, received, strict=True))
    if images.ndim != 4 or not fits:
        words = " x ".join("any" if e is None else str(e) for e in expected)
        raise UserError(
            f"calibration images: expected (n, height, width, channels) with {words}, which {model.name} takes, "
            f"received {tuple(images.shape)}"
        )
    if len(images) < batch_size * batches:
        words = f"a batch of {batch_size}" if batches == 1 else f"{batches} batches of {batch_size}"
        raise UserError(
            f"calibration images: expected at least {words}, received {len(images)}: take more images, or a smaller "
            "`batch_size`"
        )
    if np.issubdtype(images.dtype, np.integer):
        raise UserError(f"calibration images: expected normalised ones, (x - 128) / 128, received {images.dtype}")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise UserError("calibration images: expected finite values, some are not")
    low, high = float(images.min()), float(images.max())
    if low < -1.001 or high > 1.001:
        raise UserError(
            f"calibration images: expected normalised ones, (x - 128) / 128, from -1 to 1, received values from "
            f"{low:.4g} to {high:.4g}"
        )
    return images
