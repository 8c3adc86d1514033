"""Ranges from values: what an affine quantizer of a tensor shall cover."""

import numpy as np

METHODS = ("min_max", "percentile", "mse")
_PERCENTILE = 99.99


def range_of(sample, low, high, method, steps=255):
    """`(low, high)`, the range around zero that `steps` steps shall cover.

    Args:
        sample: float32 (n,), values of the tensors that share the range.
        low, high: the extremes of all their values, at most and at least 0.
        method: "min_max": all values; "percentile": without the outermost 0.01% at either end; "mse": with the
            smallest squared error of rounding and clipping, among shares of the whole range.
    """
    if method == "min_max":
        return low, high
    if method == "percentile":
        below, above = np.percentile(sample, [100 - _PERCENTILE, _PERCENTILE])
        return min(float(below), 0.0), max(float(above), 0.0)
    if method != "mse":
        raise ValueError(f"calibration: expected one of {METHODS}, received {method!r}")

    def error(share):
        scale = share * (high - low) / steps or 1.0
        first = np.rint(share * low / scale)
        return np.mean((np.clip(np.rint(sample / scale), first, first + steps) * scale - sample) ** 2)

    share = min(np.linspace(1.0, 0.3, 36), key=error)
    return share * low, share * high
