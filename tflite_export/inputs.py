"""Checks the inputs of an export other than the model: the calibration values and the normalization of pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tflite_export.folding import ExportError

Normalization = tuple[float, float] | None
# Normalizations that networks are trained with, for the error that names the one that fits.
_COMMON = ((128.0, 128.0), (0.0, 255.0), (0.0, 1.0), (128.0, 127.5), (128.0, 64.0), (118.0, 58.0))


def checked_images(
    images: Any,
    model: str,
    names: Sequence[str],
    shapes: Sequence[tuple[int | None, ...]],
    normalizations: Mapping[str, Normalization],
) -> dict[str, np.ndarray]:
    """The calibration values of each input by its name, float32 (n, ...), equally many of each.

    Args:
        images: what the caller passed: one array for one input, else a list in their order or a dictionary by name.
        model: name of the model, for messages.
        names, shapes: of the inputs, shapes without the batch axis.
        normalizations: of the inputs by name.

    Raises:
        ExportError: an input has none or has another shape, some values are not finite, or they do not look normalised
            as stated.
    """
    given = {names[0]: images} if len(names) == 1 and not isinstance(images, Mapping) else images
    if isinstance(given, list | tuple) and len(given) == len(names):
        given = dict(zip(names, given, strict=True))
    if not isinstance(given, Mapping) or set(given) != set(names):
        received = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(images).__name__
        raise ExportError(
            f"{model}: expected calibration values for its {len(names)} inputs {', '.join(names)}, received {received}"
        )
    found = {
        name: _checked(given[name], model, name if len(names) > 1 else "", shape, normalizations[name])
        for name, shape in zip(names, shapes, strict=True)
    }
    if len({len(values) for values in found.values()}) > 1:
        counts = ", ".join(f"{len(values)} of {name}" for name, values in found.items())
        raise ExportError(f"{model}: expected equally many calibration values of each input, received {counts}")
    return found


def _checked(
    images: Any, model: str, name: str, shape: tuple[int | None, ...], normalization: Normalization
) -> np.ndarray:
    what = f"calibration values of {name}" if name else "calibration images"
    if None in shape:
        raise ExportError(
            f"{model}: expected images of one size, its input is {shape}; "
            "make it with keras.Input((height, width, channels)), or by tfqnas.zoo.with_input_size"
        )
    if images is None:
        raise ExportError(f"{what}: expected float32 {('n', *shape)}, received None")
    try:
        images = np.asarray(images)
        whole = not np.issubdtype(images.dtype, np.floating)
        images = images.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{what}: expected an array, {error}") from None
    if shape != (received := images.shape[1:]) or not len(images):
        raise ExportError(f"{what}: expected size {shape}, that of {model}, received {len(images)} of {received}")
    if not np.isfinite(images).all():
        raise ExportError(f"{what}: expected finite values, some are not")
    if normalization is not None:
        _refuse_other_range(images, what, whole, *normalization)
    return images


def _refuse_other_range(images: np.ndarray, what: str, whole: bool, mean: float, divisor: float) -> None:
    """Raises `ExportError` for pixels that are plainly normalised in another way than stated."""
    low, high = -mean / divisor, (255 - mean) / divisor
    first, last = float(images.min()), float(images.max())
    if first == last == 0 and not whole:
        return  # as in a trial without images; zeros tell nothing
    # Half of the range is tolerated beyond it: constants are rounded, and noise suffices to inspect a file.
    beyond = max(low - first, last - high) > 0.5 * (high - low)
    # No pixel is darker than the mean, and all of them lie in half of the range or less, as with pixels / 255.
    half = low < 0 and first >= 0 and len(images) > 1 and images.size > 256
    unnormalised = (mean, divisor) != (0.0, 1.0) and whole
    narrow = last - first < 0.02 * (high - low)
    if not (beyond or half or unnormalised or narrow):
        return
    fitting = [
        pair
        for pair in _COMMON
        if pair != (mean, divisor) and _fits(first, last, *pair) and (pair == (0.0, 1.0)) == (whole or last > 64)
    ]
    advice = "" if not fitting else f"; `normalization={_plain(fitting[0])}` fits them"
    raise ExportError(
        f"{what}: expected (pixel - {mean:g}) / {divisor:g}, from {low:.4g} to {high:.4g}, received "
        f"{'whole numbers' if whole else 'values'} from {first:.4g} to {last:.4g}{advice}; "
        '`normalization="calibrated"` takes values that are no pixels'
    )


def _fits(first: float, last: float, mean: float, divisor: float) -> bool:
    """Whether values fill at least a third of what pixels may be, and lie within it."""
    low, high = -mean / divisor, (255 - mean) / divisor
    margin = 0.02 * (high - low)
    signs = first < 0 or low >= 0
    return low - margin <= first and last <= high + margin and last - first > (high - low) / 3 and signs


def _plain(pair: tuple[float, float]) -> str:
    return f"({pair[0]:g}, {pair[1]:g})"


def checked_normalizations(normalization: Any, names: Sequence[str]) -> dict[str, Normalization]:
    """`(mean, divisor)` of each input by its name, or None for one whose range is calibrated.

    Raises:
        ExportError: zero padding has no exact integer, or the names are not those of the inputs.
    """
    given = normalization if isinstance(normalization, Mapping) else dict.fromkeys(names, normalization)
    if set(given) != set(names):
        raise ExportError(f"normalization: expected one for each of {', '.join(names)}, received {', '.join(given)}")
    return {name: None if _is_calibrated(given[name]) else checked_normalization(given[name]) for name in names}


def _is_calibrated(normalization: Any) -> bool:
    return isinstance(normalization, str) and normalization == "calibrated"


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
