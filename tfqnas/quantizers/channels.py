"""Common parts of quantizers with a scale for each channel of weights."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The ending of their names.
PER_CHANNEL = "_per_channel"


class OfChannels(keras.layers.Layer):
    """A variable with a value for each channel, float32 (channels,), made when the number of channels is known.

    Args:
        variable: name of the variable.
        name: name of this layer.
        settings: further arguments of `add_weight`.
    """

    def __init__(self, variable: str, name: str, **settings: Any) -> None:
        super().__init__(name=name)
        self._variable, self._settings = variable, settings

    def build(self, shape: tuple[int, ...]) -> None:
        start = keras.initializers.Constant(float("nan"))
        self.values = self.add_weight(name=self._variable, shape=shape, initializer=start, **self._settings)
        self.built = True

    def build_within(self, owner: keras.layers.Layer, channels: int) -> None:
        """Builds the variable during initialisation, with a path that is unique among a mixture's candidates."""
        with keras.name_scope(owner.name, caller=owner):
            self.build((channels,))


def rows(x: np.ndarray, axis: int | None) -> np.ndarray:
    """The values of a tensor as (channels, values of each), or as a single row without an axis."""
    return x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def along_axis(values: tf.Tensor, axis: int, rank: int) -> tf.Tensor:
    """Values (channels,) reshaped to this rank, with size 1 along all axes but `axis`."""
    return tf.reshape(values, [-1 if i == axis % rank else 1 for i in range(rank)])
