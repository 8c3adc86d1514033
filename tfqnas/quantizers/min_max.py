"""Symmetric quantization over the whole range of a tensor or of each of its channels."""

from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.channels import PER_CHANNEL


@keras.saving.register_keras_serializable("tfqnas")
class MinMax(Quantizer):
    """`round(v / s) * s` with `s = max(abs(v)) / Qp`, of all values or along one axis (Jacob et al., 2018).

    For weights that nothing else quantizes, as an integer model stores them: 8 bits, a scale for each channel. It has
    no parameters, nothing is ever clipped, and the gradient passes through unchanged.

    Args:
        bits: 2 to 16. signed, narrow_range: the range is symmetric, so both are True.
        axis: of the channels that have a scale each, or None.
    """

    def __init__(
        self, bits: int = 8, signed: bool = True, narrow_range: bool = True, axis: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if not (signed and narrow_range):
            raise ValueError(f"expected a symmetric range, received {signed=}, {narrow_range=}")
        self.axis = axis

    @property
    def strategy(self) -> str:
        return "min_max" if self.axis is None else "min_max" + PER_CHANNEL

    def set_from(self, x: tf.Tensor) -> None:
        pass  # the tensor of each call says it all

    def _scale(self, x: tf.Tensor) -> tf.Tensor:
        """Of the shape of `x`, with 1 along all axes but the channels'."""
        rank = len(x.shape)
        others = [i for i in range(rank) if self.axis is None or i != self.axis % rank]
        largest = tf.reduce_max(tf.abs(x), axis=others, keepdims=True)
        # A channel of zeros is one at any scale.
        largest = tf.where(largest > 0, largest, tf.maximum(tf.reduce_max(largest), 1e-6))
        return largest / self.qp

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        scale = self._scale(x)
        return x + tf.stop_gradient(tf.round(x / scale) * scale - x)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """The scale is an array (channels,) where there is an axis."""
        scale = self._scale(x)
        codes = tf.cast(tf.round(x / scale), tf.int32)
        return codes, tf.reshape(scale, () if self.axis is None else (-1,)), 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
