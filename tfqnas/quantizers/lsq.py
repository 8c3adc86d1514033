"""LSQ, learned step size quantization (Esser et al., 2019; OQA, equation 1)."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfqnas.quantizers.base import Again, Codes, Quantizer
from tfqnas.quantizers.kernels import on_grid, passed
from tfqnas.quantizers.ranges import least_error, sample_of
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import Traits
from tfqnas.quantizers.uniform import UniformGrid, gradient_times

# The smallest step. A smaller one would clip all values of a layer to nearly nothing.
MIN_STEP = 1e-6


def lsq(
    v: tf.Tensor,
    step: tf.Tensor,
    bits: tf.Tensor | int,
    qn: tf.Tensor | int,
    qp: tf.Tensor | int,
    gradient_scale: tf.Tensor | float,
    again: Again | None = None,
    signed: bool = True,
    narrow: bool = False,
) -> tf.Tensor:
    """`round(clip(v / s, qn, qp)) * s` with the gradients of LSQ, for a positive step `s`; ties go to even.

    The gradient to `v` is 1 inside the range, else 0 (straight-through). The gradient to `s` is `round(v/s) - v/s`
    inside and `qn` or `qp` outside, summed over the elements and multiplied by `gradient_scale`.

    A custom gradient around TensorFlow kernels passes over the tensor once forward and once backward. It stores only
    `v` and the output, or only `v` with `again`. With stop_gradient, a training step would take 1.4 times as long as
    that of an unquantized network.

    Args:
        v: float32 tensor of any shape.
        step: float32 scalar, the positive step size, in units of `v`.
        bits: 2 to 16, a Python int or an int32 scalar, with `qp - qn` either `2^bits - 1` or (narrow range)
            `2^bits - 2`.
        qn, qp: lowest and highest integer, Python ints or float32 scalars.
        gradient_scale: float32 scalar, in LSQ `1 / sqrt(N * qp)`.
        again: the `Again` that computes the result again for the gradient, or None.
        signed, narrow: properties of the range, used only if `bits` is a tensor and does not tell them.

    Returns:
        float32 tensor of the shape of `v`.
    """
    if isinstance(bits, int):
        signed, narrow = qn < 0, qp - qn == 2**bits - 2

    @tf.custom_gradient
    def forward(v: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        low, high = qn * step, qp * step
        q = on_grid(v, low, high, bits, signed, narrow)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            dv, below, above = passed(upstream, v, low, high, bits, narrow)
            # `dv` is the upstream gradient inside the range and 0 outside, where `below` and `above` are its sums.
            # The shorter sum(upstream * q) - sum(dv * v) suffers from cancellation, with errors to 5e-3 at 8 bits.
            rounded = q if again is None else again(upstream)
            inside = tf.reduce_sum(dv * (rounded - v)) / step
            return dv, (inside + below * qn + above * qp) * gradient_scale

        return q, gradient

    return forward(v, step)


def first_step(v: ArrayLike, qn: int, qp: int) -> float:
    """The step with the smallest squared error of `v`; 1 if `v` is zero, and not finite if `v` is not.

    The step of the paper, `2 * mean(abs(v)) / sqrt(qp)` (LSQ, section 2.1), clips most of 256 levels away: before any
    training a small residual network on digits keeps 17 dB of its logits with it at 8 bits, and 32 dB with this one, at
    4 bits 4 and 11 dB. Trained, it reaches the same accuracies or better ones (`studies/first_step.py`).
    """
    v = np.asarray(v, np.float32)
    sample, whole = sample_of(v), max(float(v.max()) / qp, float(v.min()) / qn if qn else 0.0)
    if not np.isfinite([v.min(), v.max()]).all():
        return float("nan")

    def error(share: float) -> float:
        step = share * whole
        return float(np.mean((np.clip(np.rint(sample / step), qn, qp) * step - sample) ** 2))

    return whole * least_error(error) if whole > 0 else 1.0


def collapsed(what: str, variable: keras.Variable) -> str | None:
    """A text if `what`, a step or an end of a range, has fallen to the smallest step, else None."""
    value = float(variable.numpy())
    return f"the {what} has collapsed to {value:g}" if value <= MIN_STEP * (1 + 1e-6) else None


def _positive(step: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.abs(step), MIN_STEP)


def _gradient_scale(x: tf.Tensor, batched: bool, qp: tf.Tensor | int) -> tf.Tensor:
    elements = tf.cast(tf.reduce_prod(tf.shape(x)[int(batched) :]), tf.float32)
    return tf.math.rsqrt(elements * qp)


@keras.saving.register_keras_serializable("tfqnas")
class MinimumStep(keras.constraints.Constraint):
    """Keeps a learned step from reaching zero or changing its sign after an update of any size."""

    def __call__(self, w: tf.Tensor | keras.Variable) -> tf.Tensor:
        return tf.maximum(w, MIN_STEP)


@register("lsq", "weights", place=10, in_training=True)
@register("lsq", "inputs", place=10, in_training=True, signed=None)
@keras.saving.register_keras_serializable("tfqnas")
class LSQ(Quantizer):
    """Uniform quantization with a learned step size, one scalar for each tensor.

    In an elastic layer all kernel sizes, widths, depths and resolutions share the step (the shared step size of OQAT;
    `BySize` has several). The step is NaN until `tfqnas.initialize` sets it, so that a forgotten initialisation shows
    in `problem` and in the first gradient. The gradient of the step is scaled by `1 / sqrt(N * Qp)`, where `N` is the
    number of elements of the tensor, or of one example if the tensor is a batch.

    Args:
        bits: 2 to 16.
        signed: True for weights, False for activations.
        narrow_range: see `integer_range`.
    """

    traits = Traits(elementwise=True)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSQ":
        if not config.get("sizes"):  # files of earlier versions mark a single step in this way
            config = {name: value for name, value in config.items() if name not in ("shared", "sizes")}
        return super().from_config(config)

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        return {"step": {"constraint": MinimumStep()}}

    def _positive_step(self) -> tf.Tensor:
        return _positive(tf.convert_to_tensor(self.step))

    def set_from(self, x: tf.Tensor) -> None:
        """Sets the step to `first_step` of the tensor."""
        step = first_step(x, self.qn, self.qp)
        if not np.isfinite(step):
            raise ValueError(f"{self.path}: cannot set a step size from values that are not finite")
        self.step.assign(max(step, MIN_STEP))

    def widen(self, x: tf.Tensor) -> None:
        """Keeps the larger step, for the tensors of all calls of a shared layer."""
        before = float(self.step.numpy())
        self.set_from(x)
        self.step.assign(max(before, float(self.step.numpy())))

    def fake_quantize(self, x: tf.Tensor, batched: bool, again: Again | None = None) -> tf.Tensor:
        return self.compute(x, {"step": tf.convert_to_tensor(self.step)}, self.codes, batched, again)

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid:
        step = gradient_times(self._positive_step(), _gradient_scale(x, batched, self.qp))
        bits, qn, qp, signed, narrow = self.codes
        return UniformGrid(bits, qn * step, qp * step, signed, narrow, step)

    @staticmethod
    def compute(
        x: tf.Tensor, parameters: Mapping[str, tf.Tensor], codes: Codes, batched: bool, again: Again | None = None
    ) -> tf.Tensor:
        scale = _gradient_scale(x, batched, codes.qp)
        return lsq(x, _positive(parameters["step"]), *codes[:3], scale, again, *codes[3:])

    def again(self, x: tf.Tensor) -> Again:
        step, codes = self._positive_step(), self.codes
        return Again(lambda: on_grid(x, codes.qn * step, codes.qp * step, codes.bits, codes.signed, codes.narrow))

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        scale = self._positive_step()
        # From the forward pass, so that ties also become the codes of training.
        return tf.cast(tf.round(self.fake_quantize(x, batched=False) / scale), tf.int32), scale, 0

    def halved(self) -> Quantizer:
        """One bit less and twice the step (OQA, section 3.4), so that no value moves by more than the old step."""
        half = super().halved()
        if half.built:
            half.step.assign(2.0 * self.step)
        return half

    @property
    def problem(self) -> str | None:
        if not self.is_set:
            return "the step size is not set: call tfqnas.initialize(model, images) after loading weights"
        return collapsed("step size", self.step)
