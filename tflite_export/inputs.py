"""Checks the inputs of an export other than the model: the calibration images and the normalization of pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_export.folding import ExportError


def checked_images(images: Any, name: str, shape: Sequence[int | None], mean: float, divisor: float) -> np.ndarray:
    """The calibration images as float32 (n, height, width, channels).

    Args:
        images: what the caller passed.
        name: name of the model, for messages.
        shape: shape of the model's input without the batch axis.
        mean, divisor: normalization of the pixels.

    Raises:
        ExportError: the images have another shape, are not finite, or do not look normalised as stated.
    """
    expected, wanted = tuple(shape), f"(pixel - {mean:g}) / {divisor:g}"
    if None in expected:
        raise ExportError(
            f"{name}: expected images of one size, its input is {expected}; "
            "make it with keras.Input((height, width, channels)), or by tfqnas.zoo.with_input_size"
        )
    if images is None:
        raise ExportError(f"calibration images: expected float32 {('n', *expected)}, received None")
    try:
        images = np.asarray(images)
        integers = not np.issubdtype(images.dtype, np.floating)
        images = images.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ExportError(f"calibration images: expected an array, {error}") from None
    if expected != (received := images.shape[1:]) or not len(images):
        raise ExportError(
            f"calibration images: expected size {expected}, that of {name}, received {len(images)} of {received}"
        )
    if not np.isfinite(images).all():
        raise ExportError("calibration images: expected finite values, some are not")
    low, high = -mean / divisor, (255 - mean) / divisor
    # Half of the range is tolerated beyond it: constants are rounded, and noise suffices to inspect a file.
    beyond = max(low - images.min(), images.max() - high) > 0.5 * (high - low)
    if integers or beyond:
        raise ExportError(
            f"calibration images: expected {wanted}, from {low:.4g} to {high:.4g}, received "
            f"{'whole numbers' if integers else 'values'} from {images.min():.4g} to {images.max():.4g}"
        )
    return images


def checked_normalization(normalization: Any) -> tuple[float, float]:
    """`(mean, divisor)` of the pixels as floats; raises `ExportError` if zero padding has no exact integer."""
    try:
        mean, divisor = normalization
        if not all(np.issubdtype(np.asarray(number).dtype, np.number) for number in (mean, divisor)):
            raise TypeError
    except (TypeError, ValueError):
        raise ExportError(
            f"normalization: expected two numbers, (mean, divisor) of the pixels, received {normalization!r}"
        ) from None
    _refuse_normalization(mean, divisor)
    return float(mean), float(divisor)


def _refuse_normalization(mean: Any, divisor: Any) -> None:
    if np.ndim(mean) or np.ndim(divisor):
        raise ExportError(
            f"normalisation (x - {mean}) / {divisor}: padding has one value for all channels, expected one mean "
            f"and one divisor, such as (x - {_pixel(np.mean(mean))}) / {np.mean(divisor):g}"
        )
    if not np.isfinite(divisor) or divisor <= 0:
        raise ExportError(f"normalisation (x - {mean:g}) / {divisor:g}: expected a positive divisor")
    if mean != _pixel(mean):
        raise ExportError(
            f"normalisation (x - {mean:g}) / {divisor:g}: its zero is no pixel value, so padding has no exact integer; "
            f"(x - {_pixel(mean)}) / {divisor:g} has"
        )


def _pixel(value: float) -> int:
    return int(np.clip(np.rint(np.nan_to_num(value)), 0, 255))
