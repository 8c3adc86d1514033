"""LSQ, learned step size quantization (Esser et al., 2019; OQA, equation 1)."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers.base import Again, Codes, Quantizer
from tfqnas.quantizers.kernels import on_grid, passed
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import Traits
from tfqnas.quantizers.uniform import UniformGrid, gradient_times

# A step below this is no step: all of a layer's values would be clipped to nothing.
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
    """`round(clip(v / s, qn, qp)) * s` with the gradients of LSQ, for a positive step `s`; ties to even.

    Gradient to `v`: 1 inside the range, else 0 (straight-through). Gradient to `s`: `round(v/s) - v/s`
    inside, `qn` or `qp` outside, summed over the elements and times `gradient_scale`.

    One custom gradient around kernels of TensorFlow: one pass over the tensor forward and one backward, and nothing
    stored but `v` and the output, or `v` alone with `again`. Written with stop_gradient the same costs 1.4 times the
    step of an unquantized network.

    Args:
        v: float32 tensor of any shape.
        step: float32 scalar, the positive step size, in units of `v`.
        bits: 2 to 16, a Python int or an int32 scalar, with `qp - qn` either `2^bits - 1` or (narrow range)
            `2^bits - 2`.
        qn, qp: lowest and highest integer, Python ints or float32 scalars.
        gradient_scale: float32 scalar; LSQ takes `1 / sqrt(N * qp)`.
        again: None, or the `Again` that computes the result anew for the gradient.
        signed, narrow: of the range; only where `bits` is a tensor, from which they cannot be told.

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
            # `dv` is the upstream gradient inside the range and 0 outside, where `below` and `above` hold
            # its sums. The shorter sum(upstream * q) - sum(dv * v) cancels: errors to 5e-3 at 8 bits.
            rounded = q if again is None else again(upstream)
            inside = tf.reduce_sum(dv * (rounded - v)) / step
            return dv, (inside + below * qn + above * qp) * gradient_scale

        return q, gradient

    return forward(v, step)


def initial_step(v: tf.Tensor, qp: tf.Tensor | float) -> tf.Tensor:
    """`2 * mean(abs(v)) / sqrt(qp)` (LSQ, section 2.1), float32 scalar; not finite where `v` is not."""
    return tf.maximum(2.0 * tf.reduce_mean(tf.abs(v)) / qp**0.5, MIN_STEP)


def collapsed(what: str, variable: keras.Variable) -> str | None:
    """None, or that `what`, a step or an end of a range, is as small as can be."""
    value = float(variable.numpy())
    return f"the {what} has collapsed to {value:g}" if value <= MIN_STEP * (1 + 1e-6) else None


def _positive(step: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.abs(step), MIN_STEP)


def _gradient_scale(x: tf.Tensor, batched: bool, qp: tf.Tensor | int) -> tf.Tensor:
    elements = tf.cast(tf.reduce_prod(tf.shape(x)[int(batched) :]), tf.float32)
    return tf.math.rsqrt(elements * qp)


@keras.saving.register_keras_serializable("tfqnas")
class MinimumStep(keras.constraints.Constraint):
    """Keeps a learned step from reaching zero or changing its sign, whatever the size of an update."""

    def __call__(self, w: tf.Tensor | keras.Variable) -> tf.Tensor:
        return tf.maximum(w, MIN_STEP)


@register("lsq", "weights", place=10, in_training=True)
@register("lsq", "inputs", place=10, in_training=True, signed=None)
@keras.saving.register_keras_serializable("tfqnas")
class LSQ(Quantizer):
    """Uniform quantization with a learned step size, one scalar a tensor.

    In an elastic layer the step is shared by all kernel sizes, widths, depths and resolutions (the shared step size of
    OQAT; `BySize` has several). It is NaN until `tfqnas.initialize` has set it, so that a forgotten initialisation
    shows in the first gradient, and in `problem` before. The gradient of the step is scaled by `1 / sqrt(N * Qp)`, with
    `N` the elements of the tensor, or of one example where the tensor is a batch.

    Args:
        bits: 2 to 16. signed: True for weights, False for activations. narrow_range: see `integer_range`.
    """

    traits = Traits(elementwise=True)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSQ":
        if not config.get("sizes"):  # files of earlier versions say in this way that a layer has one step
            config = {name: value for name, value in config.items() if name not in ("shared", "sizes")}
        return super().from_config(config)

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        return {"step": {"constraint": MinimumStep()}}

    def _positive_step(self) -> tf.Tensor:
        return _positive(tf.convert_to_tensor(self.step))

    def set_from(self, x: tf.Tensor) -> None:
        """`initial_step` of the tensor."""
        step = initial_step(x, self.qp)
        if not tf.math.is_finite(step):
            raise ValueError(f"{self.path}: cannot set a step size from values that are not finite")
        self.step.assign(step)

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
        # From the forward pass, so that ties too become the codes that were trained.
        return tf.cast(tf.round(self.fake_quantize(x, batched=False) / scale), tf.int32), scale, 0

    def halved(self) -> Quantizer:
        """One bit less and the step doubled (OQA, section 3.4): no value moves by more than the old step."""
        half = super().halved()
        if half.built:
            half.step.assign(2.0 * self.step)
        return half

    @property
    def problem(self) -> str | None:
        if not self.is_set:
            return "the step size is not set: call tfqnas.initialize(model, images) after loading weights"
        return collapsed("step size", self.step)
