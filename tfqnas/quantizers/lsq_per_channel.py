"""LSQ of weights with a step for each output channel (Esser et al., 2019, section 2; LSQ+, equation 6)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.channels import OfChannels, along_axis, rows
from tfqnas.quantizers.lsq import MIN_STEP, MinimumStep
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import NONE, Traits

# Initial steps to try, as shares of the step that clips nothing. With the last one no value lies exactly at the end,
# where rounding would decide its gradient.
_SHARES = np.geomspace(0.1, 1.001, 40)
# The share of the squared mean in the mean square of a normally distributed input after a ReLU.
_OFFSET = 1 / np.pi


def initial_steps(weights: np.ndarray, bits: int, qn: int, qp: int) -> np.ndarray:
    """The initial steps of channels, float64 (channels,).

    At 2 bits they are `max(abs(mu - 3 sd), abs(mu + 3 sd)) / 2^(b-1)`, as for weights in LSQ+ (equation 6). From 3 bits
    they minimise the expected squared error of the output, `(1 - o) sum(e^2) + o sum(e)^2`, where `e` are the errors of
    a channel's weights and `o = 1 / pi` for independent, normally distributed inputs after a ReLU. Unlike the error of
    the weights alone, this takes the mean of such inputs into account (compared in docs/results/dqss.md).

    Args:
        weights: float64 (channels, weights of each).
        bits: bit width.
        qn, qp: lowest and highest code.
    """
    if bits == 2:
        mean, deviation = weights.mean(1), weights.std(1)
        steps = np.maximum(np.abs(mean - 3 * deviation), np.abs(mean + 3 * deviation)) / 2 ** (bits - 1)
    else:
        steps = np.abs(weights).max(1) / qp
    # Any step suits a channel of zeros. It gets the largest step of the others, to be able to learn.
    steps = np.maximum(np.where(steps > MIN_STEP, steps, steps.max()), MIN_STEP)
    if bits > 2:
        steps = steps * _SHARES[np.argmin([_output_error(weights, share * steps, qn, qp) for share in _SHARES], axis=0)]
    return np.maximum(steps, MIN_STEP)


def _output_error(weights: np.ndarray, steps: np.ndarray, qn: int, qp: int) -> np.ndarray:
    errors = np.clip(np.rint(weights / steps[:, np.newaxis]), qn, qp) * steps[:, np.newaxis] - weights
    return (1 - _OFFSET) * np.sum(errors**2, axis=1) + _OFFSET * np.sum(errors, axis=1) ** 2


@register("lsq_per_channel", place=20, partner="lsq_plus")
@keras.saving.register_keras_serializable("tfqnas")
class LSQPerChannel(Quantizer):
    """`round(clip(w / s_c, Qn, Qp)) * s_c` with a learned step `s_c` for each output channel `c`.

    The gradients within a channel are those of LSQ. To `w` it is 1 inside the range, else 0. To `s_c` it is
    `round(w / s_c) - w / s_c` inside and `Qn` or `Qp` outside, summed over the `N` elements of the channel and
    multiplied by `1 / sqrt(N * Qp)`. Steps start with `initial_steps`. Integer models compute the method exactly, since
    their weights have a scale for each channel.

    Args:
        bits: 2 to 16.
        signed: always True, since weights are signed.
        narrow_range: whether to drop the lowest code.
        axis: axis of the output channels of a kernel.
        channels: number of channels; None until initialisation.
    """

    traits = Traits(inputs=NONE, per_channel=True)

    def __init__(
        self,
        bits: int,
        signed: bool = True,
        narrow_range: bool = False,
        axis: int = -1,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if not signed:
            raise ValueError(f"expected signed codes, received {signed=}")
        self.axis, self.channels = axis, channels
        # As in `add_parameters`: constraints need an aggregation under tf.distribute.
        self.steps = OfChannels("step", "steps", constraint=MinimumStep(), aggregation="mean")

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        if self.channels is not None:
            self.steps.build((self.channels,))
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        own = rows(np.asarray(x, np.float64), self.axis)
        if not np.isfinite(own).all():
            raise ValueError(f"{self.path}: cannot set step sizes from values that are not finite")
        if self.channels is None:
            self.channels = len(own)
            self.steps.build_within(self, self.channels)
        self.steps.values.assign(initial_steps(own, self.bits, self.qn, self.qp))

    def _steps(self) -> tf.Tensor:
        return tf.maximum(tf.abs(tf.convert_to_tensor(self.steps.values)), MIN_STEP)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        if not self.steps.built:
            return tf.fill(tf.shape(x), float("nan"))
        steps = self._steps()
        elements = tf.cast(tf.size(x) / tf.size(steps), tf.float32)
        return _by_channel(
            tf.convert_to_tensor(x), steps, self.axis, self.qn, self.qp, tf.math.rsqrt(elements * self.qp)
        )

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """See `Quantizer.to_integers`; the scale is an array (channels,)."""
        x, steps = tf.convert_to_tensor(x), self._steps()
        codes = tf.round(self.fake_quantize(x, batched=False) / along_axis(steps, self.axis, len(x.shape)))
        return tf.cast(codes, tf.int32), steps, 0

    def halved(self) -> Quantizer:
        """One bit less and twice the steps, as in LSQ (OQA, section 3.4)."""
        half = super().halved()
        if half.steps.built:
            half.steps.values.assign(2.0 * self.steps.values)
        return half

    @property
    def is_set(self) -> bool:
        return self.steps.built and super().is_set

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis, "channels": self.channels}


def _by_channel(x: tf.Tensor, steps: tf.Tensor, axis: int, qn: int, qp: int, gradient_scale: tf.Tensor) -> tf.Tensor:
    others = [i for i in range(len(x.shape)) if i != axis % len(x.shape)]

    @tf.custom_gradient
    def forward(x: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        step = along_axis(steps, axis, len(x.shape))
        codes = tf.round(tf.clip_by_value(x / step, float(qn), float(qp)))

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            u = x / step
            inside = (u >= qn) & (u <= qp)
            slope = tf.where(inside, codes - u, codes)
            return tf.where(inside, upstream, 0.0), tf.reduce_sum(upstream * slope, others) * gradient_scale

        return codes * step, gradient

    return forward(x, steps)
