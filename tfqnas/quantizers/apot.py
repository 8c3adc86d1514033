"""APoT, additive powers of two (Li et al., 2020), whose levels are sums of powers of two."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfqnas.errors import NoIntegersError
from tfqnas.quantizers.lsq import MIN_STEP, MinimumStep, collapsed
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.roles import OfRole
from tfqnas.quantizers.traits import Traits

# Exponents, by number of bits. A level of unsigned codes is a sum of at most one power from each list (the authors'
# release).
_POWERS = {
    2: ((1, 2, 3),),
    3: ((1, 2, 4), (3,)),
    4: ((1, 3, 5), (2, 4, 6)),
    5: ((1, 3, 6), (2, 4, 7), (5,)),
    6: ((1, 4, 7), (2, 5, 8), (3, 6, 9)),
}


@functools.cache
def levels(bits: int, signed: bool) -> np.ndarray:
    """The ascending levels for an end of 1, float64. Signed codes have a bit for the sign, and zero only once."""
    lists = [(0.0, *(2.0**-power for power in powers)) for powers in _POWERS[bits - int(signed)]]
    sums = np.unique([sum(terms) for terms in itertools.product(*lists)])
    sums = sums / sums[-1]
    return np.concatenate([-sums[:0:-1], sums]) if signed else sums


def projected(x: tf.Tensor, alpha: tf.Tensor, bits: int, signed: bool) -> tf.Tensor:
    """The nearest level between `-alpha` (signed) or 0 and `alpha`; ties go to the upper level.

    The gradient to `x` is 1 inside the range, else 0. The gradient to `alpha` is `(y - x) / alpha` inside, 1 above, and
    below it is -1 for signed codes (APoT, equation 8).

    Args:
        x: float32 of any shape.
        alpha: float32 scalar, positive.
        bits, signed: see `levels`.
    """
    ends = levels(bits, signed)
    middles = ((ends[1:] + ends[:-1]) / 2).tolist()

    @tf.custom_gradient
    def forward(x: tf.Tensor, alpha: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        places = tf.raw_ops.Bucketize(input=x / alpha, boundaries=middles)
        y = tf.gather(tf.constant(ends, tf.float32) * alpha, places)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            low = -alpha if signed else tf.zeros_like(alpha)
            inside = tf.logical_and(x >= low, x <= alpha)
            to_x = tf.where(inside, upstream, 0.0)
            to_alpha = tf.reduce_sum(upstream * tf.where(inside, y - x, y)) / alpha
            return to_x, to_alpha

        return y, gradient

    return forward(x, alpha)


@register("apot")
@keras.saving.register_keras_serializable("tfqnas")
class APoT(OfRole):
    """Quantizes to `levels` times a learned end `alpha`; `projected` states the gradients.

    No integer kernel computes with these levels, so `to_integers` raises. The initial `alpha` of weights is three
    standard deviations, and that of inputs is the smaller of `initial` and the largest value. The authors' release also
    divides weights by their deviation. This is left out, since BatchNorm undoes it and since it would rescale the
    kernel in a mixture with other quantizers.

    Args:
        bits: 2 to 6 for inputs, 3 to 7 for weights.
        role: see `OfRole`.
        initial: largest initial `alpha` of inputs.
    """

    traits = Traits(weights=range(3, 8), inputs=range(2, 7), uniform=False, clips_at_zero=True)

    def __init__(self, bits: int, role: str = "weights", initial: float = 6.0, **kwargs: Any) -> None:
        super().__init__(bits, role, **kwargs)
        if self.narrow_range:
            raise ValueError("narrow_range: expected False, the levels are symmetric, received True")
        self.initial = initial

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.add_parameters({"alpha": {"constraint": MinimumStep()}})
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        if not np.isfinite(x).all():
            raise ValueError(f"{self.path}: cannot set a range from values that are not finite")
        if self.role == "weights":
            end = 3 * float(np.std(x, dtype=np.float64))
        else:
            largest = float(np.max(x))
            end = min(self.initial, largest) if largest > 0 else self.initial
        self.alpha.assign(max(end, MIN_STEP))

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        alpha = tf.maximum(tf.convert_to_tensor(self.alpha), MIN_STEP)
        return projected(x, alpha, self.bits, bool(self.signed))

    def to_integers(self, x: tf.Tensor) -> NoReturn:
        raise NoIntegersError("levels are sums of powers of two, no integers times one step")

    @property
    def problem(self) -> str | None:
        if not self.is_set:
            return super().problem
        return collapsed("range", self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}
