"""BatchQuant, affine quantization over the range of the batch with learned gain and offset (Bai et al., 2021)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Codes, Options, Quantizer
from tfqnas.quantizers.kernels import on_grid, passed
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import Traits

# The step of a tensor of zeros.
_MIN_STEP = 1e-6


def batch_range(x: tf.Tensor) -> tf.Tensor:
    """The range of a batch, float32 (2, 1), with the means over channels of their lowest and of their highest values.

    The range always has zero. No gradient flows through it.

    Args:
        x: float32 (batch, ..., channels).
    """
    x = tf.stop_gradient(x)
    axes = list(range(len(x.shape) - 1))
    low = tf.minimum(tf.reduce_mean(tf.reduce_min(x, axes)), 0.0)
    high = tf.maximum(tf.reduce_mean(tf.reduce_max(x, axes)), 0.0)
    return tf.stack([low, high])[:, tf.newaxis]


def affine(
    x: tf.Tensor,
    step: tf.Tensor,
    zero: tf.Tensor,
    bits: tf.Tensor | int,
    top: tf.Tensor | float,
    gradient_scale: float = 1.0,
) -> tf.Tensor:
    """`(round(clip(x / step + zero, 0, top)) - zero) * step`, with a zero point that may have a fraction.

    Gradients are straight-through for the rounding. With `u = x / step + zero` and its code `q`, inside the range they
    are 1 to `x`, `q - u` to `step` and 0 to `zero`. Outside they are 0 to `x`, `q - zero` to `step` and `-step` to
    `zero`.

    Args:
        x: float32 of any shape.
        step: float32 scalar, positive.
        zero: float32 scalar.
        bits: 2 to 16, a Python int or an int32 scalar.
        top: `2^bits - 1`, a number or a float32 scalar.
        gradient_scale: factor of the gradients to `step` and `zero`.
    """

    @tf.custom_gradient
    def forward(x: tf.Tensor, step: tf.Tensor, zero: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        high = top * step
        shift = zero * step
        y = on_grid(x + shift, 0.0 * high, high, bits, signed=False) - shift

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dx, below, above = passed(upstream, x + shift, 0.0 * high, high, bits)
            d_step = tf.reduce_sum(dx * (y - x)) / step - below * zero + above * (top - zero)
            return dx, d_step * gradient_scale, -step * (below + above) * gradient_scale

        return y, gradient

    return forward(x, step, zero)


@register("batch_quant", "inputs")
@keras.saving.register_keras_serializable("tfqnas")
class BatchQuant(Quantizer):
    """`q = round(clip(x * g / S + Z + o, Qn, Qp))`, `x_hat = (q - Z - o) * S / g`, with step and zero of the batch.

    Here `S = (M - m) / (Qp - Qn)` and `Z = clip(Qn - round(m / S), Qn, Qp)`, where `m` and `M` are the means over
    channels of their lowest and highest values (`batch_range`). The quantizer learns `theta`, which gives the gain
    `g = log2(1 + 2^theta)`, and the offset `o`. They start with `g = 1` and `o = 0`.

    Training uses the range of each batch. Evaluation uses a range averaged over batches. A supernet gives it as an
    argument, estimated for every subnet together with BatchNorm statistics; any other layer keeps a moving average.
    Evaluation rounds `Z + o` unless `snapped=False`, since the zero point of an integer model is whole.

    Args:
        bits: 2 to 16.
        signed: whether codes are signed, which does not affect the range.
        momentum: momentum of the moving averages.
        snapped: whether evaluation rounds the zero point.
    """

    traits = Traits(observes=True)

    def __init__(
        self,
        bits: int,
        signed: bool = False,
        narrow_range: bool = False,
        momentum: float = 0.9,
        snapped: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if narrow_range:
            raise ValueError("narrow_range: expected False, the range is affine, received True")
        self.momentum, self.snapped = momentum, snapped

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        return {name: {"initializer": "zeros"} for name in ("theta", "offset")}

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        super().build()
        self.add_parameters({name: {"trainable": False} for name in ("low", "high")})

    @staticmethod
    def pooled(statistics: np.ndarray) -> np.ndarray:
        """The mean, float32 (2, 1), of the ranges of batches, float32 (batches, 2, 1)."""
        return np.mean(statistics, axis=0)

    statistics_size = 1
    observe = staticmethod(batch_range)

    def call(
        self,
        x: tf.Tensor,
        batched: bool = False,
        options: Options = Options(),  # noqa: B008  # it is frozen
        training: bool | None = None,
    ) -> tf.Tensor:
        """Quantizes `x`. In training the range is that of `x`, and the moving averages are updated."""
        if training and options.statistics is None:
            statistics = batch_range(x)
            options = dataclasses.replace(options, statistics=statistics, snap=False)
            for kept, new in zip((self.low, self.high), tf.unstack(statistics[:, 0]), strict=True):
                kept.assign(self.momentum * kept + (1.0 - self.momentum) * new)
        return super().call(x, batched, options)

    def set_from(self, x: tf.Tensor) -> None:
        low, high = batch_range(x).numpy()[:, 0]
        if not np.isfinite([low, high]).all():
            raise ValueError(f"{self.path}: cannot set a range from values that are not finite")
        for variable, value in ((self.theta, 0.0), (self.offset, 0.0), (self.low, low), (self.high, high)):
            variable.assign(value)

    def widen(self, x: tf.Tensor) -> None:
        low, high = self.low.numpy(), self.high.numpy()
        self.set_from(x)
        self.low.assign(min(low, self.low.numpy()))
        self.high.assign(max(high, self.high.numpy()))

    def fake_quantize(
        self, x: tf.Tensor, batched: bool, statistics: tf.Tensor | None = None, snap: bool | None = None
    ) -> tf.Tensor:
        statistics = self._statistics() if statistics is None else statistics
        snap = self.snapped if snap is None else snap
        return self.compute(x, self._values(), self.codes, batched, statistics, snap)

    def _values(self) -> dict[str, tf.Tensor]:
        return {"theta": tf.convert_to_tensor(self.theta), "offset": tf.convert_to_tensor(self.offset)}

    def _statistics(self) -> tf.Tensor:
        return tf.stack([tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)])[:, tf.newaxis]

    @staticmethod
    def compute(  # type: ignore[override]  # ByBits adds these arguments
        x: tf.Tensor,
        parameters: Mapping[str, tf.Tensor],
        codes: Codes,
        batched: bool,
        statistics: tf.Tensor,
        snap: bool,
    ) -> tf.Tensor:
        """See `Quantizer.compute`; `statistics` is `m` and `M`, float32 (2, 1), and `snap` rounds the zero point."""
        step, zero = _grid(parameters, codes, statistics, snap)
        return affine(x, step, zero, codes.bits, codes.qp - codes.qn)

    def with_statistics(self, values: Sequence[np.ndarray], statistics: np.ndarray) -> list[np.ndarray]:
        """The `values` of `variables` with another range, float32 (2, 1)."""
        named = dict(zip([v.name for v in self.variables], values, strict=True))
        named |= {"low": statistics[0, 0], "high": statistics[1, 0]}
        return [named[v.name] for v in self.variables]

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        step, zero = _grid(self._values(), self.codes, self._statistics(), snap=True)
        y = self.fake_quantize(tf.convert_to_tensor(x), batched=False, snap=True)
        codes = tf.round(y / step + zero) + self.qn
        return tf.cast(codes, tf.int32), step, int(zero) + self.qn

    @property
    def below_zero(self) -> bool:
        return not self.is_set or bool(_grid(self._values(), self.codes, self._statistics(), snap=True)[1] > 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "snapped": self.snapped}


def _grid(
    parameters: Mapping[str, tf.Tensor], codes: Codes, statistics: tf.Tensor, snap: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """`(step, zero point relative to the lowest code)`, float32 scalars."""
    low, high = statistics[0, 0], statistics[1, 0]
    top = tf.cast(codes.qp - codes.qn, tf.float32)
    step = tf.maximum((high - low) / top, _MIN_STEP)
    zero = tf.clip_by_value(-tf.round(low / step), 0.0, top) + parameters["offset"]
    if snap:
        whole = tf.clip_by_value(zero, 0.0, top)
        zero = whole + tf.stop_gradient(tf.round(whole) - whole)
    gain = tf.math.softplus(parameters["theta"] * np.log(2.0)) / np.log(2.0)  # log2(1 + 2^theta)
    return step / gain, zero
