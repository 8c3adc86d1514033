"""Symmetric quantization over the whole range of a tensor or of each of its channels."""

from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.channels import PER_CHANNEL


@keras.saving.register_keras_serializable("tfqnas")
class MinMax(Quantizer):
    """`round(v / s) * s` with `s = max(abs(v)) / Qp` over all values or for each channel (Jacob et al., 2018).

    It quantizes weights without another quantizer as an integer model stores them, with 8 bits and a scale for each
    channel. It has no parameters, never clips, and does not change the gradient.

    Args:
        bits: 2 to 16.
        signed, narrow_range: always True, since the range is symmetric.
        axis: axis of the channels with a scale each, or None for one scale.
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
        pass  # the scale comes from the tensor of each call

    def _scale(self, x: tf.Tensor) -> tf.Tensor:
        """The scale with the rank of `x` and size 1 along all axes but that of the channels."""
        rank = len(x.shape)
        others = [i for i in range(rank) if self.axis is None or i != self.axis % rank]
        largest = tf.reduce_max(tf.abs(x), axis=others, keepdims=True)
        # Any scale suits a channel of zeros.
        largest = tf.where(largest > 0, largest, tf.maximum(tf.reduce_max(largest), 1e-6))
        return largest / self.qp

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        scale = self._scale(x)
        return x + tf.stop_gradient(tf.round(x / scale) * scale - x)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """See `Quantizer.to_integers`; with an axis the scale is an array (channels,)."""
        scale = self._scale(x)
        codes = tf.cast(tf.round(x / scale), tf.int32)
        return codes, tf.reshape(scale, () if self.axis is None else (-1,)), 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}
