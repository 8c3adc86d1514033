"""Ranges from values: what an affine quantizer of a tensor shall cover."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

METHODS = ("min_max", "percentile", "mse", "kl")
_PERCENTILE = 99.99
# Bins of the histogram of "kl", the ranges that it tries, and the share of a bin that stands for an empty one.
_BINS, _TRIED, _EMPTY = 2048, 96, 1e-4
# Shares of the whole range that "mse" tries, and those around the best of them, relative to it. At 2 bits outliers lie
# ten times and more outside of the best range.
_COARSE, _FINE = np.geomspace(1.0, 0.02, 24), np.geomspace(0.86, 1.16, 13)
# Values that are enough to say where a range shall end; its extremes are those of all values.
_ENOUGH = 1 << 18


def sample_of(x: ArrayLike) -> np.ndarray:
    """float32 (n,): the values of a tensor, of a large one every so many-th."""
    x = np.asarray(x, np.float32)
    stride = max(1, x.size // _ENOUGH)
    while x.ndim and math.gcd(stride, x.shape[-1]) > 1:  # so that it meets every channel
        stride += 1
    return x.ravel()[::stride]


def finite_range(x: ArrayLike, method: str, steps: int, where: str, **settings: Any) -> tuple[float, float]:
    """`range_of` the values of a tensor.

    Raises:
        ValueError: if some are not finite; `where` says whose they are.
    """
    x = np.asarray(x, np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{where}: cannot set a range from values that are not finite")
    return range_of(sample_of(x), min(float(x.min()), 0.0), max(float(x.max()), 0.0), method, steps, **settings)


def range_of(
    sample: np.ndarray, low: float, high: float, method: str, steps: int = 255, shares: ArrayLike | None = None
) -> tuple[float, float]:
    """`(low, high)`, the range around zero that `steps` steps shall cover.

    Args:
        sample: float32 (n,), values of the tensors that share the range.
        low, high: the extremes of all their values, at most and at least 0.
        method: "min_max": all values; "percentile": without the outermost 0.01% at either end; "mse": with the
            smallest squared error of rounding and clipping, among shares of the whole range; "kl": with the smallest
            divergence of the rounded values' distribution from that of the clipped ones, among such shares.
        shares: None, or float (n,): the only ones that "mse" tries.
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

    tried = np.minimum(min(_COARSE, key=error) * _FINE, 1.0) if shares is None else np.asarray(shares)
    share = min(tried, key=error)
    return share * low, share * high


def _least_divergence(sample: np.ndarray, low: float, high: float, steps: int) -> tuple[float, float]:
    """The share of a range with the least Kullback-Leibler divergence (Migacz, 2017, slides 32 to 38).

    `P`: the histogram within the range, with what lies outside in its first and its last bin. `Q`: the histogram
    without what lies outside, its bins joined to `steps + 1` levels, each level's sum spread evenly over those of its
    bins that are not empty. So both clipping and rounding make `Q` differ from `P`.
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

    smallest = min(1.0, 2 * (steps + 1) / _BINS)  # two bins a level, below that nothing would be lost by rounding
    share = min(np.linspace(1.0, max(smallest, 0.05), _TRIED), key=divergence)
    return share * low, share * high
