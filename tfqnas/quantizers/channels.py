"""What quantizers with a scale for each channel of weights share."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# What their names end with.
PER_CHANNEL = "_per_channel"


class OfChannels(keras.layers.Layer):
    """One variable of the channels, float32 (channels,), whose size is known only when there are weights.

    Args:
        variable: its name. settings: further arguments of `add_weight`.
    """

    def __init__(self, variable: str, name: str, **settings: Any) -> None:
        super().__init__(name=name)
        self._variable, self._settings = variable, settings

    def build(self, shape: tuple[int, ...]) -> None:
        start = keras.initializers.Constant(float("nan"))
        self.values = self.add_weight(name=self._variable, shape=shape, initializer=start, **self._settings)
        self.built = True

    def build_within(self, owner: keras.layers.Layer, channels: int) -> None:
        """Builds it late, in initialisation: paths must tell the variables of a mixture's candidates apart."""
        with keras.name_scope(owner.name, caller=owner):
            self.build((channels,))


def rows(x: np.ndarray, axis: int | None) -> np.ndarray:
    """(channels, values of each), a single row without an axis."""
    return x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def along_axis(values: tf.Tensor, axis: int, rank: int) -> tf.Tensor:
    """(channels,) with 1 along all other axes of a tensor of this rank."""
    return tf.reshape(values, [-1 if i == axis % rank else 1 for i in range(rank)])
