"""Checks that calibration images fit a model."""

import keras
import numpy as np

from tfqnas.errors import UserError


def checked(images: np.ndarray, model: keras.Model, batch_size: int, batches: int = 1) -> np.ndarray:
    """Calibration images as float32 (n, height, width, channels), after checks.

    Args:
        batch_size, batches: there must be at least this many batches of this size.

    Raises:
        UserError: for images with another size or other channels than the model takes, for too few images, and for
            values outside those of normalised images.
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
        raise UserError("calibration images: expected finite values, but some are not finite")
    low, high = float(images.min()), float(images.max())
    if low < -1.001 or high > 1.001:
        raise UserError(
            f"calibration images: expected normalised ones, (x - 128) / 128, from -1 to 1, received values from "
            f"{low:.4g} to {high:.4g}"
        )
    return images
