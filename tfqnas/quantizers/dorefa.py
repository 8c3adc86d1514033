"""DoReFa-Net (Zhou et al., 2016), rescaled to the tensor that it quantizes."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfqnas.errors import NoIntegersError
from tfqnas.quantizers.kernels import on_grid
from tfqnas.quantizers.ranges import finite_range
from tfqnas.quantizers.registry import register
from tfqnas.quantizers.roles import OfRole
from tfqnas.quantizers.traits import Traits
from tfqnas.quantizers.uniform import UniformGrid, rounded


def squashed(w: tf.Tensor, bits: int, rescaled: bool = True) -> tf.Tensor:
    """`M * (2 * q(tanh(w) / (2 * m) + 1 / 2) - 1)`, `m = max(abs(tanh(w)))`, `q(x) = round((2^b-1) x) / (2^b-1)`.

    The gradient leaves out `q` and takes the maxima as constants, which gives `M * (1 - tanh(w)^2) / m`.

    Args:
        w: float32 of any shape.
        bits: 2 to 16.
        rescaled: whether `M` is `max(abs(w))`. Otherwise it is 1, as published.
    """

    @tf.custom_gradient
    def forward(w: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        t = tf.tanh(w)
        largest = tf.reduce_max(tf.abs(w))
        size = largest if rescaled else tf.ones_like(largest)
        factor = size / tf.maximum(tf.tanh(largest), 1e-12)  # tanh is monotonic
        y = on_grid(t * factor + size, 0.0 * size, 2.0 * tf.maximum(size, 1e-12), bits, signed=False) - size
        return y, lambda upstream: upstream * (1.0 - t * t) * factor

    return forward(w)


@register("dorefa", "weights", place=50, in_training=True)
@register("dorefa", "inputs")
@keras.saving.register_keras_serializable("tfqnas")
class DoReFa(OfRole):
    """Squashes weights by tanh and rounds to odd half steps (equation 9); clips inputs to a fixed range (section 2.3).

    Weights (`squashed`) have no parameters, but their maximum makes each depend on the whole tensor. In the paper
    weights lie within +-1 and inputs are clipped to [0, 1], which suits networks that are trained in this way. Here
    weights are rescaled to `max(abs(w))` and inputs to a calibrated range, so that the method can quantize trained
    networks and be mixed with other quantizers.

    Levels of weights are odd multiples of `M / (2^b - 1)`, without zero. Their integers need `b + 1` bits, so int8
    holds levels of up to 7 bits.

    Args:
        bits: 2 to 16.
        role: see `OfRole`.
        rescaled: whether weights are multiplied by `max(abs(w))`, and inputs clipped to a calibrated range rather than
            [0, 1].
        method: method that calibrates the range of inputs, see `range_of`.
    """

    traits = Traits(extra_weight_bits=1, clips_at_zero=True)

    def __init__(
        self, bits: int, role: str = "weights", rescaled: bool = True, method: str = "percentile", **kwargs: Any
    ) -> None:
        super().__init__(bits, role, **kwargs)
        if self.narrow_range:
            raise ValueError("narrow_range: expected False, the levels are symmetric, received True")
        self.rescaled, self.method = rescaled, method

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        if self.role == "inputs":
            known = {} if self.rescaled else {"initializer": "ones"}
            self.add_parameters({"high": {"trainable": False, **known}})
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        if self.role == "inputs" and self.rescaled:
            _, high = finite_range(x, self.method, self.qp, self.path)
            self.high.assign(high if high > 0 else 1.0)

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid | None:
        if self.role == "weights":
            return None
        high = tf.convert_to_tensor(self.high)
        return UniformGrid(self.bits, 0.0 * high, high, signed=False, learned=False)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        grid = self.grid(x, batched)
        return squashed(x, self.bits, self.rescaled) if grid is None else rounded(x, grid)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        y = self.fake_quantize(x, batched=False)
        if self.role == "inputs":
            scale = tf.convert_to_tensor(self.high) / self.qp
            return tf.cast(tf.round(y / scale), tf.int32), scale, 0
        if self.bits > 7:
            raise NoIntegersError(f"odd half steps of {self.bits} bits do not fit into int8, expected at most 7 bits")
        steps = 2**self.bits - 1
        scale = tf.maximum(tf.reduce_max(tf.abs(x)), 1e-12) / steps if self.rescaled else tf.constant(1.0 / steps)
        return 2 * tf.cast(tf.round((y / scale + steps) / 2), tf.int32) - steps, scale, 0

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rescaled": self.rescaled, "method": self.method}
