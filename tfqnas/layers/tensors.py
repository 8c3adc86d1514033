"""Layers without kernels: a quantizer for several readers, depth to space, a factor and an offset."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfqnas.quantizers import Quantizer, clone


@keras.saving.register_keras_serializable("tfqnas")
class Quantize(keras.layers.Layer):
    """A quantizer between layers, which rounds a tensor once for several quantized layers that read it.

    With 8 bits it models the tensor that an integer model keeps between two operations. Calling it at several places
    gives their tensors the same grid, as additions need it.

    Args:
        quantizer: prototype `Quantizer`.
    """

    def __init__(self, quantizer: Quantizer | dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer = clone(quantizer, "quantizer")
        if self.quantizer is None:
            raise TypeError("quantizer: expected a tfqnas Quantizer, received None")

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.quantizer.build()
        self.built = True

    @property
    def quantizers(self) -> list[Quantizer]:
        """The layer's quantizer, in a list."""
        return [self.quantizer]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`x`, float32 (batch, ...), on the quantizer's grid."""
        return keras.ops.cast(self.quantizer(x, batched=True), self.compute_dtype)

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantizer": keras.saving.serialize_keras_object(self.quantizer)}


@keras.saving.register_keras_serializable("tfqnas")
class DepthToSpace(keras.layers.Layer):
    """Moves channels to pixels, the upscaling of super-resolution networks (sub-pixel convolution, Shi et al., 2016).

    Args:
        block_size: factor by which height and width grow; the channels are divided by its square.
    """

    def __init__(self, block_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(block_size, int) or block_size < 2:
            raise ValueError(f"block_size: expected a whole number from 2 on, received {block_size!r}")
        self.block_size = block_size

    def build(self, input_shape: Sequence[int | None]) -> None:
        channels = input_shape[-1]
        if channels is None or channels % self.block_size**2:
            raise ValueError(f"{self.name}: expected a multiple of {self.block_size**2} channels, received {channels}")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """From float32 (batch, height, width, channels) to (batch, b height, b width, channels / b^2)."""
        return tf.nn.depth_to_space(x, self.block_size)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        size = self.block_size
        return batch, height and height * size, width and width * size, channels and channels // size**2

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "block_size": self.block_size}


@keras.saving.register_keras_serializable("tfqnas")
class ScaleOffset(keras.layers.Layer):
    """`gamma * x + beta` with a trained factor and offset for each channel, the end of a LayerNorm.

    Args:
        scale: whether there is a factor.
        offset: whether there is an offset.
    """

    def __init__(self, scale: bool = True, offset: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.gamma: keras.Variable | None = None
        self.beta: keras.Variable | None = None

    def build(self, input_shape: Sequence[int | None]) -> None:
        if self.scale:
            self.gamma = self.add_weight((input_shape[-1],), "ones", name="gamma")
        if self.offset:
            self.beta = self.add_weight((input_shape[-1],), "zeros", name="beta")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """From (batch, ..., channels) to the same shape."""
        x = x if self.gamma is None else x * keras.ops.cast(self.gamma, x.dtype)
        return x if self.beta is None else x + keras.ops.cast(self.beta, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


@keras.saving.register_keras_serializable("tfqnas")
class ReciprocalRoot(keras.layers.Layer):
    """`1 / sqrt(x)`, and for what is not above zero the largest of these, as an integer kernel has it.

    A variance that is quantized may become zero.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """From any shape to the same."""
        tiny = tf.constant(1e-12, x.dtype)
        positive = x > tiny
        least = tf.reduce_min(tf.where(positive, x, tf.ones_like(x) * x.dtype.max))
        return tf.math.rsqrt(tf.where(positive, x, tf.clip_by_value(least, tiny, tf.ones_like(tiny))))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
