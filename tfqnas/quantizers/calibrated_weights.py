"""Symmetric quantization of weights over a range from initialisation, for the whole tensor or for each channel."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.channels import PER_CHANNEL, OfChannels, along_axis, rows
from tfqnas.quantizers.ranges import METHODS, finite_range
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import NONE, Traits
from tfqnas.quantizers.uniform import UniformGrid, rounded


@register("mse", "weights", place=60, method="mse")
@register("percentile", "weights", method="percentile")
@register("min_max", "weights", method="min_max")
@register("kl", "weights", method="kl")
@register("mse_per_channel", place=65, partner="mse", method="mse", axis=-1)
@register("percentile_per_channel", method="percentile", axis=-1)
@register("min_max_per_channel", place=80, partner="min_max", method="min_max", axis=-1)
@register("kl_per_channel", method="kl", axis=-1)
@keras.saving.register_keras_serializable("tfqnas")
class CalibratedWeights(Quantizer):
    """`clip(round(v / s), -Qp, Qp) * s` with `s = high / Qp`, the usual post-training quantization of weights.

    The gradient is 1 inside the range and 0 outside. `high` is set at initialisation and does not change. It is the end
    that `range_of` finds for the values together with their negatives, for the whole tensor or for each channel.

    Args:
        bits: 2 to 16.
        signed, narrow_range: always True, since the range is symmetric.
        method: "min_max", "percentile", "mse" or "kl", see `range_of`.
        axis: axis of the channels with a scale each (the output channels of a kernel), or None for one scale.
        channels: number of channels along the axis; None until initialisation.
    """

    traits = Traits(inputs=NONE)

    def __init__(
        self,
        bits: int = 8,
        signed: bool = True,
        narrow_range: bool = True,
        method: str = "mse",
        axis: int | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if not (signed and narrow_range):
            raise ValueError(f"expected a symmetric range, received {signed=}, {narrow_range=}")
        if method not in METHODS:
            raise ValueError(f"method: expected one of {METHODS}, received {method!r}")
        self.method, self.axis, self.channels = method, axis, channels
        self.traits = dataclasses.replace(self.traits, per_channel=axis is not None)
        self.ends = OfChannels("high", "ends", trainable=False)

    @property
    def strategy(self) -> str:
        return self.method if self.axis is None else self.method + PER_CHANNEL

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        if self.axis is None:
            self.ends.build(())
        elif self.channels is not None:
            self.ends.build((self.channels,))
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        own = rows(np.asarray(x, np.float32), self.axis)
        if self.axis is not None and self.channels is None:
            self.channels = len(own)
            self.ends.build_within(self, self.channels)
        highs = np.array([self._end(row) for row in own])
        highs = np.where(highs > 0, highs, max(highs.max(), 1e-6))  # any scale suits a channel of zeros
        self.ends.values.assign(highs[0] if self.axis is None else highs)

    def _end(self, row: np.ndarray) -> float:
        # With the negatives of the values the range is symmetric, as the codes are.
        _, high = finite_range(np.concatenate([row, -row]), self.method, 2 * self.qp, self.path)
        return high

    def _highs(self, x: tf.Tensor) -> tf.Tensor:
        """`high` with the rank of `x` and size 1 along all axes but that of the channels, or a scalar."""
        high = tf.convert_to_tensor(self.ends.values)
        if self.axis is None:
            return high
        return along_axis(high, self.axis, len(x.shape))

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid | None:
        if self.axis is not None:
            return None
        high = tf.convert_to_tensor(self.ends.values)
        return UniformGrid(self.bits, -high, high, signed=True, narrow=True, learned=False)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        if not self.ends.built:
            return tf.fill(tf.shape(x), float("nan"))
        grid = self.grid(x, batched)
        return _by_channel(x, self._highs(x), self.qp) if grid is None else rounded(x, grid)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """See `Quantizer.to_integers`; with an axis the scale is an array (channels,)."""
        x = tf.convert_to_tensor(x)
        codes = tf.round(self.fake_quantize(x, batched=False) / (self._highs(x) / self.qp))
        return tf.cast(codes, tf.int32), tf.convert_to_tensor(self.ends.values) / self.qp, 0

    @property
    def is_set(self) -> bool:
        return self.ends.built and super().is_set

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "method": self.method, "axis": self.axis, "channels": self.channels}


def _by_channel(x: tf.Tensor, high: tf.Tensor, top: int) -> tf.Tensor:
    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        step = high / top
        y = tf.round(tf.clip_by_value(x, -high, high) / step) * step
        return y, lambda upstream: tf.where(tf.abs(x) <= high, upstream, 0.0)

    return forward(x)
