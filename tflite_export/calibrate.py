"""Finds the ranges of 8-bit tensors from calibration images."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfqnas.graph.keras_internals import nodes_of
from tfqnas.quantizers.ranges import range_of

# How many values of a tensor are kept for percentiles and errors. The extremes are taken over all values.
_KEPT = 1 << 18
# The most float32 numbers in the tensors of a batch, and how many tensors as large as the largest a graph has in use.
_NUMBERS, _IN_USE = 80_000_000, 6
# As many Keras calls take less time than tracing a graph.
_CALLS = 10


class Values:
    """The extremes of all values of a tensor, zero included, and a random sample of the values."""

    def __init__(self, seed: int = 0) -> None:
        self.low, self.high = 0.0, 0.0
        self._sample: list[np.ndarray] = []
        self._rng = np.random.default_rng(seed)

    def add(self, x: np.ndarray, share: float) -> None:
        """Takes the values of a batch that holds the fraction `share` of all images."""
        x = np.asarray(x, np.float32).ravel()
        self.low, self.high = float(np.minimum(self.low, x.min())), float(np.maximum(self.high, x.max()))
        wanted = int(_KEPT * share) + 1
        self._sample.append(x if len(x) <= wanted else self._rng.choice(x, wanted, replace=False))

    @property
    def sample(self) -> np.ndarray:
        """float32 (n,): about `_KEPT` values at most."""
        return np.concatenate(self._sample)


def values_of(
    model: keras.Model, tensors: Sequence[keras.KerasTensor], inputs: Sequence[np.ndarray]
) -> dict[int, Values]:
    """`{id(tensor): Values}` of Keras tensors of `model` on the calibration values of each input, float32 (n, ...)."""
    if not tensors:
        return {}
    part = keras.Model(model.inputs, list(tensors))
    count = len(inputs[0])
    run, batch_size = _runner(part, tensors, count)
    found = {id(t): Values() for t in tensors}
    for start in range(0, count, batch_size):
        batch = [tf.constant(x[start : start + batch_size]) for x in inputs]
        results = run(*batch)
        for tensor, x in zip(tensors, results if isinstance(results, list | tuple) else [results], strict=True):
            found[id(tensor)].add(x, len(batch[0]) / count)
    return found


def _runner(
    part: keras.Model, tensors: Sequence[keras.KerasTensor], images: int
) -> tuple[Callable[..., tf.Tensor | list[tf.Tensor]], int]:
    """`(function, images per batch)` that fit into memory: eager calls of the model, or a graph if many are needed.

    An eager call keeps all tensors until it ends (100 MB per image of 224 px) and takes half a millisecond per layer. A
    graph keeps only its results and the tensors in use, but tracing it takes seconds.
    """

    def run(*inputs: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        return part(list(inputs), training=False)

    every = [math.prod(t.shape[1:]) for node in nodes_of(part) for t in node.output_tensors]
    eagerly = _batch_size(sum(every))
    if images <= _CALLS * eagerly:
        return run, eagerly
    kept = sum(math.prod(t.shape[1:]) for t in tensors)
    signature = [tf.TensorSpec((None, *t.shape[1:])) for t in part.inputs]
    graph = tf.function(run, input_signature=signature, autograph=False)
    return graph, _batch_size(kept + _IN_USE * max(every))


def _batch_size(numbers: int) -> int:
    return int(np.clip(_NUMBERS // numbers, 1, 64))


def common_range(values: Sequence[Values], method: str) -> tuple[float, float]:
    """`(low, high)` of the 255 steps that tensors share, from the `Values` of each; `method` is as in `lower`."""
    low, high = min(v.low for v in values), max(v.high for v in values)
    return range_of(np.concatenate([v.sample for v in values]), low, high, method)
