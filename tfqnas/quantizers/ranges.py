"""Finds the range of an affine quantizer from values of its tensor."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

METHODS = ("min_max", "percentile", "mse", "kl")
_PERCENTILE = 99.99
# Number of bins and of tried ranges for "kl", and the count that replaces that of an empty bin.
_BINS, _TRIED, _EMPTY = 2048, 96, 1e-4
# Shares of the whole range that "mse" tries, and factors for finer trials around the best one. At 2 bits the whole
# range may be more than ten times the best one.
_COARSE, _FINE = np.geomspace(1.0, 0.02, 24), np.geomspace(0.86, 1.16, 13)
# Number of values that suffice to choose a range; the extremes are those of all values.
_ENOUGH = 1 << 18


def sample_of(x: ArrayLike) -> np.ndarray:
    """The values of a tensor, float32 (n,); large tensors are subsampled with a stride."""
    x = np.asarray(x, np.float32)
    stride = max(1, x.size // _ENOUGH)
    while x.ndim and math.gcd(stride, x.shape[-1]) > 1:  # so that all channels are sampled
        stride += 1
    return x.ravel()[::stride]


def finite_range(x: ArrayLike, method: str, steps: int, where: str, **settings: Any) -> tuple[float, float]:
    """`range_of` the values of a tensor.

    Raises:
        ValueError: if some values are not finite; the message begins with `where`.
    """
    x = np.asarray(x, np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{where}: cannot set a range from values that are not finite")
    return range_of(sample_of(x), min(float(x.min()), 0.0), max(float(x.max()), 0.0), method, steps, **settings)


def range_of(
    sample: np.ndarray, low: float, high: float, method: str, steps: int = 255, shares: ArrayLike | None = None
) -> tuple[float, float]:
    """`(low, high)`, a range with zero for a quantizer with `steps` steps.

    Args:
        sample: float32 (n,), values of the tensors that share the range.
        low, high: the extremes of all values, with `low <= 0 <= high`.
        method: "min_max" covers all values. "percentile" leaves out 0.01% at either end. "mse" tries shares of the
            whole range and takes the smallest squared error of rounding and clipping. "kl" tries shares and takes the
            smallest divergence of the distribution of rounded values from that of clipped values.
        steps: number of steps in the range, one less than the number of codes.
        shares: float (n,), the shares that "mse" tries, or None for its own.
    """
    if method == "min_max":
        return low, high
    if method == "percentile":
        below, above = np.percentile(sample, [100 - _PERCENTILE, _PERCENTILE])
        return min(float(below), 0.0), max(float(above), 0.0)
    if method == "kl":
        return _least_divergence(sample, low, high, steps)
    if method != "mse":
        raise ValueError(f"calibration: expected one of {METHODS}, received {method!r}")

    def error(share: float) -> float:
        scale = share * (high - low) / steps or 1.0
        first = np.rint(share * low / scale)
        return np.mean((np.clip(np.rint(sample / scale), first, first + steps) * scale - sample) ** 2)

    share = least_error(error) if shares is None else min(np.asarray(shares), key=error)
    return share * low, share * high


def least_error(error: Callable[[float], float]) -> float:
    """The share of the whole range, at most 1, with the smallest error."""
    return min(np.minimum(min(_COARSE, key=error) * _FINE, 1.0), key=error)


def _least_divergence(sample: np.ndarray, low: float, high: float, steps: int) -> tuple[float, float]:
    """The share of a range with the smallest Kullback-Leibler divergence (Migacz, 2017, slides 32 to 38).

    `P` is the histogram within the range, whose first and last bin also count the values outside. `Q` leaves these
    values out and joins bins to `steps + 1` levels, with the sum of a level spread evenly over its non-empty bins. So
    both clipping and rounding make `Q` differ from `P`.
    """
    if high <= low:
        return low, high
    counts, edges = np.histogram(sample, _BINS, (low, high))
    centres, counts = (edges[:-1] + edges[1:]) / 2, counts.astype(np.float64)

    def divergence(share: float) -> float:
        first, last = np.searchsorted(centres, [share * low, share * high])
        inside = counts[first:last]
        clipped = inside.copy()
        clipped[0] += counts[:first].sum()
        clipped[-1] += counts[last:].sum()
        level = np.rint((centres[first:last] - share * low) / (share * (high - low)) * steps).astype(int)
        filled = clipped > 0
        sums, places = (np.bincount(level, weights, steps + 1) for weights in (inside, filled))
        rounded = np.where(filled, (sums / np.maximum(places, 1))[level], 0)
        p, q = clipped[filled] / clipped.sum(), np.maximum(rounded[filled], _EMPTY) / max(rounded.sum(), _EMPTY)
        return np.sum(p * np.log(p / q))

    smallest = min(1.0, 2 * (steps + 1) / _BINS)  # two bins for each level, since fewer hide rounding
    share = min(np.linspace(1.0, max(smallest, 0.05), _TRIED), key=divergence)
    return share * low, share * high
