"""LSQ+, which is LSQ with a learned offset for inputs and another initialisation (Bhalgat et al., 2020)."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.lsq import MIN_STEP, MinimumStep, collapsed
from tfqnas.quantizers.ranges import finite_range
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.roles import OfRole
from tfqnas.quantizers.uniform import UniformGrid, gradient_times, rounded

# Initial ranges of inputs to try, as shares of the whole range. At 2 bits a smaller range may have a smaller squared
# error, but learning from it gives no better accuracy (docs/results/dqss.md).
STARTS = np.linspace(1.0, 0.3, 36)


@register("lsq_plus", place=30, in_training=True)
@keras.saving.register_keras_serializable("tfqnas")
class LSQPlus(OfRole):
    """`round(clip((v - beta) / s, Qn, Qp)) * s + beta` with learned step `s` and offset `beta` (LSQ+, equations 3, 4).

    With `u = (v - beta) / s`, the gradients inside the range are 1 to `v`, `round(u) - u` to `s` and 0 to `beta`.
    Outside they are 0 to `v`, `Qn` or `Qp` to `s` and 1 to `beta`. Those to `s` and `beta` are multiplied by
    `1 / sqrt(N * Qp)`, as in LSQ. The initial `s` and `beta` of inputs have the smallest squared error (section 3.2 of
    the paper). Weights have no offset and start with `s = max(abs(mu - 3 sd), abs(mu + 3 sd)) / 2^(b-1)` (equation 6).

    The zero point `-beta / s` is rounded to a code, since integer models need a whole one; the gradient is
    straight-through. Unlike in the paper it is also rounded in training. Otherwise evaluation would shift it by up to
    half a step, which costs 2 to 5 points of accuracy at 2 bits (docs/results/dqss.md).

    Args:
        bits, role, narrow_range: see `OfRole`.
        snapped: whether to round the zero point.
    """

    def __init__(
        self, bits: int, role: str = "inputs", narrow_range: bool = False, snapped: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(bits, role, narrow_range, **kwargs)
        self.snapped = snapped

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.beta = None
        self.add_parameters({"step": {"constraint": MinimumStep()}, **({"beta": {}} if self.role == "inputs" else {})})
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        if self.role == "weights":
            mean, deviation = np.mean(x, dtype=np.float64), np.std(x, dtype=np.float64)
            step = max(abs(mean - 3 * deviation), abs(mean + 3 * deviation)) / 2 ** (self.bits - 1)
            if not np.isfinite(step):
                raise ValueError(f"{self.path}: cannot set a step size from values that are not finite")
        else:
            low, high = finite_range(x, "mse", self.qp, self.path, shares=STARTS)
            step = (high - low) / self.qp
            if self.beta is not None:
                self.beta.assign(low)
        self.step.assign(max(step, MIN_STEP))

    def fake_quantize(self, x: tf.Tensor, batched: bool, snap: bool | None = None) -> tf.Tensor:
        return rounded(x, self._grid(x, batched, self.snapped if snap is None else snap))

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid:
        return self._grid(x, batched, self.snapped)

    def _grid(self, x: tf.Tensor, batched: bool, snap: bool) -> UniformGrid:
        elements = tf.cast(tf.reduce_prod(tf.shape(x)[int(batched) :]), tf.float32)
        scale = tf.math.rsqrt(elements * self.qp)
        step = gradient_times(self._step(), scale)
        high = self.qp * step
        if self.beta is None:
            return UniformGrid(self.bits, self.qn * step, high, True, self.narrow_range, step)
        shift = gradient_times(-tf.convert_to_tensor(self.beta), scale)
        if snap:
            shift += tf.stop_gradient(self._zero() * self._step() - shift)
        return UniformGrid(self.bits, 0.0 * tf.stop_gradient(high), high, False, step=step, shift=shift)

    def _step(self) -> tf.Tensor:
        return tf.maximum(tf.abs(tf.convert_to_tensor(self.step)), MIN_STEP)

    def _zero(self) -> tf.Tensor:
        """The code of zero, a whole number in float32."""
        return tf.clip_by_value(tf.round(-tf.convert_to_tensor(self.beta) / self._step()), 0.0, float(self.qp))

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        step, zero = self._step(), 0 if self.beta is None else self._zero()
        codes = tf.round(self.fake_quantize(tf.convert_to_tensor(x), batched=False, snap=True) / step) + zero
        return tf.cast(codes, tf.int32), step, int(zero)

    @property
    def below_zero(self) -> bool:
        return self.beta is None or not self.is_set or bool(self._zero() > 0)

    def halved(self) -> Quantizer:
        """One bit less, twice the step and half the zero point, rounded down; no value moves by more than a step."""
        half = super().halved()
        if half.built:
            half.step.assign(2.0 * self.step)
            if self.beta is not None:
                half.beta.assign(-tf.floor(self._zero() / 2) * 2.0 * self._step())
        return half

    @property
    def problem(self) -> str | None:
        if not self.is_set:
            return "step size and offset are not set: call tfqnas.initialize(model, images) after loading weights"
        return collapsed("step size", self.step)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "snapped": self.snapped}
