"""Ranges of the 8-bit tensors, from images."""

import keras
import numpy as np

METHODS = ("min_max", "percentile", "mse")
# Values of one tensor that are kept for percentiles and errors; the extremes are of all values.
_KEPT = 1 << 18
_PERCENTILE = 99.99


class Values:
    """What is known of a tensor's values: the extremes of all, and a sample of them."""

    def __init__(self, seed=0):
        self.low, self.high = 0.0, 0.0
        self._sample, self._rng = [], np.random.default_rng(seed)

    def add(self, x, share):
        x = np.asarray(x, np.float32).ravel()
        self.low, self.high = float(np.minimum(self.low, x.min())), float(np.maximum(self.high, x.max()))
        wanted = int(_KEPT * share) + 1
        self._sample.append(x if len(x) <= wanted else self._rng.choice(x, wanted, replace=False))

    @property
    def sample(self):
        return np.concatenate(self._sample)


def values_of(model, tensors, images, batch_size=64):
    """`{id(tensor): Values}` of Keras tensors of `model` on normalised `images`, float32 (n, h, w, c)."""
    part = keras.Model(model.inputs[0], list(tensors))
    found = {id(t): Values() for t in tensors}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for tensor, x in zip(tensors, part(batch, training=False), strict=True):
            found[id(tensor)].add(x, len(batch) / len(images))
    return found


def range_of(values, method, steps=255):
    """`(low, high)`, the range around zero that `steps` steps shall cover.

    Args:
        values: list of `Values`, of the tensors that share the range.
        method: "min_max": all values; "percentile": without the outermost 0.01% at either end; "mse": with the
            smallest squared error of rounding and clipping, among shares of the whole range.
    """
    low, high = min(v.low for v in values), max(v.high for v in values)
    if method == "min_max":
        return low, high
    sample = np.concatenate([v.sample for v in values])
    if method == "percentile":
        below, above = np.percentile(sample, [100 - _PERCENTILE, _PERCENTILE])
        return min(below, 0.0), max(above, 0.0)
    if method != "mse":
        raise ValueError(f"calibration: expected one of {METHODS}, received {method!r}")

    def error(share):
        scale = share * (high - low) / steps or 1.0
        first = np.rint(share * low / scale)
        return np.mean((np.clip(np.rint(sample / scale), first, first + steps) * scale - sample) ** 2)

    share = min(np.linspace(1.0, 0.3, 36), key=error)
    return share * low, share * high
