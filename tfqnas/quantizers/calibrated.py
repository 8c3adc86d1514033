"""Affine quantization with a range that is calibrated on images and does not change in training."""

from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.ranges import METHODS, finite_range
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import NONE, Traits
from tfqnas.quantizers.uniform import UniformGrid


@register("mse", "inputs", place=60, method="mse")
@register("percentile", "inputs", place=70, method="percentile")
@register("min_max", "inputs", place=80, method="min_max")
@register("kl", "inputs", method="kl")
@keras.saving.register_keras_serializable("tfqnas")
class Calibrated(Quantizer):
    """`(clip(round(v / s) + z, 0, 2^bits - 1) - z) * s` over a range from calibration (Jacob et al., 2018, section 2).

    The range always has zero, with the code `z = round(-low / s)`. The gradient is 1 inside the range and 0 outside.
    The quantizer stands for the 8-bit tensors between the operations of an integer model, whose ranges are not learned.
    If one pass of initialisation calls it several times, its range covers all these tensors.

    Args:
        bits: 2 to 8.
        method: "min_max", "percentile", "mse" or "kl", see `range_of`.
        bounds: `(lowest, highest)`, limits of the range, each a number or None.
        fixed: `(low, high)` of a range that is known, so that nothing is calibrated, or None.
    """

    traits = Traits(weights=NONE, inputs=range(2, 9))

    def __init__(
        self,
        bits: int = 8,
        signed: bool = False,
        narrow_range: bool = False,
        method: str = "percentile",
        bounds: tuple[float | None, float | None] = (None, None),
        fixed: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if signed is not False or bits > 8:
            raise ValueError(f"expected unsigned codes of 2 to 8 bits and a zero point, received {signed=} {bits=}")
        if method not in METHODS:
            raise ValueError(f"method: expected one of {METHODS}, received {method!r}")
        self.method = method
        self.bounds = tuple(bounds)
        self.fixed = None if fixed is None else tuple(fixed)

    @property
    def strategy(self) -> str:
        return self.method

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        ends = self.fixed or (float("nan"), float("nan"))
        for name, end in zip(("low", "high"), ends, strict=True):
            self.add_parameters({name: {"initializer": keras.initializers.Constant(end), "trainable": False}})
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        if self.fixed is None:
            self._assign(*self._range(x))

    def widen(self, x: tf.Tensor) -> None:
        if self.fixed is None:
            low, high = self._range(x)
            self._assign(min(low, self.low.numpy()), max(high, self.high.numpy()))

    def _range(self, x: tf.Tensor) -> tuple[float, float]:
        return finite_range(x, self.method, self.qp, self.path)

    def _assign(self, low: float, high: float) -> None:
        lowest, highest = self.bounds
        low = low if lowest is None else max(low, lowest)
        high = high if highest is None else min(high, highest)
        self.low.assign(low)
        self.high.assign(high if high > low else low + 1.0)  # a tensor of zeros needs no finer step

    def _grid(self) -> tuple[tf.Tensor, tf.Tensor]:
        """`(scale, zero point)`, float32 scalars."""
        low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)
        scale = (high - low) / self.qp
        return scale, tf.clip_by_value(tf.round(-low / scale), 0.0, float(self.qp))

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid:
        scale, zero = self._grid()
        low, high = -zero * scale, (self.qp - zero) * scale
        return UniformGrid(self.bits, low, high, signed=False, whole=True, learned=False)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        scale, zero = self._grid()
        return tf.quantization.fake_quant_with_min_max_vars(x, -zero * scale, (self.qp - zero) * scale, self.bits)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        scale, zero = self._grid()
        codes = tf.round(self.fake_quantize(x, batched=False) / scale) + zero
        return tf.cast(codes, tf.int32), scale, int(zero)

    def get_config(self) -> dict[str, Any]:
        own = {"method": self.method, "bounds": list(self.bounds), "fixed": self.fixed and list(self.fixed)}
        return {**super().get_config(), **own}
