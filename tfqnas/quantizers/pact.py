"""PACT, parameterized clipping activation (Choi et al., 2018)."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Codes, Quantizer
from tfqnas.quantizers.lsq import MIN_STEP, MinimumStep, collapsed
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.traits import NONE, Traits
from tfqnas.quantizers.uniform import UniformGrid, rounded


# With the weights of DoReFa, as in the paper (section 4).
@register("pact", place=40, in_training=True, partner="dorefa")
@keras.saving.register_keras_serializable("tfqnas")
class PACT(Quantizer):
    """`round(y * (2^b - 1) / alpha) * alpha / (2^b - 1)` with `y = clip(x, 0, alpha)`, for inputs (equations 1, 2).

    The gradient to `x` is 1 if `0 <= x <= alpha`, else 0. The gradient to `alpha` is 1 if `x > alpha`, else 0 (equation
    3). `alpha` starts at the smaller of `initial` and the largest value: above all values it would have no gradient.
    Its decay, which the paper adds to the loss, is left to the optimizer.

    Args:
        bits: 2 to 16.
        signed: always False, since negative inputs are clipped.
        initial: largest initial `alpha`. The paper has 10, and released implementations have 6 to 10.
    """

    traits = Traits(weights=NONE, clips_at_zero=True)

    def __init__(
        self, bits: int, signed: bool = False, narrow_range: bool = False, initial: float = 6.0, **kwargs: Any
    ) -> None:
        super().__init__(bits, signed, narrow_range, **kwargs)
        if signed is not False:
            raise ValueError(f"PACT clips at zero: signed: expected False, received {signed!r}")
        if not initial > 0:
            raise ValueError(f"initial: expected a positive number, received {initial!r}")
        self.initial = initial

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        return {"alpha": {"constraint": MinimumStep()}}

    def set_from(self, x: tf.Tensor) -> None:
        largest = float(np.max(x))
        if not np.isfinite(x).all():
            raise ValueError(f"{self.path}: cannot set a range from values that are not finite")
        self.alpha.assign(min(self.initial, largest) if largest > 0 else self.initial)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        return self.compute(x, {"alpha": tf.convert_to_tensor(self.alpha)}, self.codes, batched)

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid:
        return _grid({"alpha": tf.convert_to_tensor(self.alpha)}, self.codes)

    @staticmethod
    def compute(x: tf.Tensor, parameters: Mapping[str, tf.Tensor], codes: Codes, batched: bool) -> tf.Tensor:
        return rounded(x, _grid(parameters, codes))

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        scale = tf.maximum(tf.convert_to_tensor(self.alpha), MIN_STEP) / self.qp
        return tf.cast(tf.round(self.fake_quantize(x, batched=False) / scale), tf.int32), scale, 0

    @property
    def problem(self) -> str | None:
        if not self.is_set:
            return super().problem
        return collapsed("range", self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}


def _grid(parameters: Mapping[str, tf.Tensor], codes: Codes) -> UniformGrid:
    alpha = tf.maximum(parameters["alpha"], MIN_STEP)
    return UniformGrid(codes.bits, 0.0 * tf.stop_gradient(alpha), alpha, signed=False)
