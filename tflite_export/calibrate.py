"""Ranges of the 8-bit tensors, from images."""

import math

import keras
import numpy as np

from tfqnas.quantizers.ranges import range_of
from tfqnas.sites import nodes_of

# Values of one tensor that are kept for percentiles and errors; the extremes are of all values.
_KEPT = 1 << 18
# Float32 numbers in all tensors of a batch.
_NUMBERS = 80_000_000


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


def values_of(model, tensors, images):
    """`{id(tensor): Values}` of Keras tensors of `model` on normalised `images`, float32 (n, h, w, c)."""
    if not tensors:
        return {}
    part = keras.Model(model.inputs[0], list(tensors))
    # Keras keeps all tensors of a batch until its end: 100 MB for each image of 224 px.
    numbers = sum(math.prod(t.shape[1:]) for node in nodes_of(model) for t in node.output_tensors)
    batch_size = int(np.clip(_NUMBERS // numbers, 1, 64))
    found = {id(t): Values() for t in tensors}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        results = part(batch, training=False)
        for tensor, x in zip(tensors, results if len(tensors) > 1 else [results], strict=True):
            found[id(tensor)].add(x, len(batch) / len(images))
    return found


def common_range(values, method):
    """`(low, high)`, the range of 255 steps that tensors share; `values`: a list of their `Values`."""
    low, high = min(v.low for v in values), max(v.high for v in values)
    return range_of(np.concatenate([v.sample for v in values]), low, high, method)
