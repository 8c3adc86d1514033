"""DSQ, differentiable soft quantization (Gong et al., 2019)."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers.kernels import on_grid, passed
from tfqnas.quantizers.ranges import finite_range
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.roles import OfRole

# Weights are clipped at this many standard deviations, which keeps 99% of a normal distribution.
_DEVIATIONS = 2.6


def soft_slope(u: tf.Tensor, sharpness: float) -> tf.Tensor:
    """The slope of `floor(u) + 1/2 + S/2 * tanh(k * (u - floor(u) - 1/2))`, `S = 1/(1-a)`, `k = ln(2/a - 1)`.

    Args:
        u: float32, in units of steps.
        sharpness: `a` in (0, 1), which gives nearly a staircase towards 0 and the identity towards 1.
    """
    k = math.log(2 / sharpness - 1)
    tanh = tf.tanh(k * (u - tf.floor(u) - 0.5))
    return 0.5 * k / (1 - sharpness) * (1.0 - tanh * tanh)


def soft(
    x: tf.Tensor,
    low: tf.Tensor,
    high: tf.Tensor,
    step: tf.Tensor,
    bits: int,
    signed: bool,
    sharpness: float,
    narrow: bool = False,
) -> tf.Tensor:
    """`x` rounded to multiples of `step` from `low` to `high`, with the gradient of the soft staircase.

    Args:
        x: float32 of any shape.
        low, high, step: float32 scalars; `low` and `high` are multiples of `step`.
        bits, signed, narrow: integer range of the codes.
        sharpness: see `soft_slope`.
    """

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            to_x, _, _ = passed(upstream * soft_slope(x / step, sharpness), x, low, high, bits, narrow)
            return to_x

        if signed:
            return on_grid(x, low, high, bits, signed, narrow), gradient
        return tf.quantization.fake_quant_with_min_max_vars(x, low, high, bits), gradient

    return forward(x)


@register("dsq")
@keras.saving.register_keras_serializable("tfqnas")
class DSQ(OfRole):
    """Rounding with the gradient of `S/2 * tanh(k * (u - floor(u) - 1/2))` within each step (DSQ, equations 4 to 7).

    The soft value is rounded again (equation 8), so the forward pass is plain rounding and only the gradient differs.
    It is large in the middle between two levels, small near them, and 0 outside the range. `a` is fixed to the value of
    released implementations, and ranges are not learned. Weights are clipped at `mu +- 2.6 sd` of the tensor of each
    call, with `s = max(abs(mu - 2.6 sd), abs(mu + 2.6 sd)) / ((Qp - Qn) / 2)`. Inputs have a calibrated range.

    Args:
        bits, role, narrow_range: see `OfRole`.
        sharpness: `a` in (0, 1).
        method: method that calibrates the range of inputs, see `range_of`.
    """

    def __init__(
        self,
        bits: int,
        role: str = "weights",
        narrow_range: bool = False,
        sharpness: float = 0.4,
        method: str = "percentile",
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, role, narrow_range, **kwargs)
        if not 0 < sharpness < 1:
            raise ValueError(f"sharpness: expected a number between 0 and 1, received {sharpness!r}")
        self.sharpness, self.method = sharpness, method

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        if self.role == "inputs":
            self.add_parameters({name: {"trainable": False} for name in ("low", "high")})
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        if self.role == "inputs":
            low, high = finite_range(x, self.method, self.qp, self.path)
            self.low.assign(low)
            self.high.assign(high if high > low else low + 1.0)

    def _grid(self, x: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """`(step, zero point)`, float32 scalars."""
        if self.role == "weights" and x is not None:
            mean, variance = tf.nn.moments(tf.stop_gradient(x), list(range(len(x.shape))))
            end = tf.abs(mean) + _DEVIATIONS * tf.sqrt(variance)
            return tf.maximum(end, 1e-12) / ((self.qp - self.qn) / 2), tf.zeros(())
        low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)
        step = (high - low) / self.qp
        return step, tf.clip_by_value(tf.round(-low / step), 0.0, float(self.qp))

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        step, zero = self._grid(x)
        bits, qn, qp, signed, narrow = self.codes
        return soft(x, (qn - zero) * step, (qp - zero) * step, step, bits, signed, self.sharpness, narrow)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        x = tf.convert_to_tensor(x)
        step, zero = self._grid(x)
        codes = tf.round(self.fake_quantize(x, batched=False) / step) + zero
        return tf.cast(codes, tf.int32), step, int(zero)

    @property
    def below_zero(self) -> bool:
        return self.role == "weights" or not self.is_set or bool(self._grid(None)[1] > 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sharpness": self.sharpness, "method": self.method}
