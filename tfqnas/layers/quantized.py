"""Static quantized layers. Without quantizers they are the plain Keras layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfqnas.layers.depthwise import depthwise_conv2d
from tfqnas.quantizers import Quantizer, clone
from tfqnas.quantizers.base import Again

if TYPE_CHECKING:
    from keras.layers import Layer as _Base
else:
    _Base = object  # a mixin, which comes before the layer's class


class _Quantized(_Base):
    """The common part of quantized layers: two quantizers, which are part of the configuration.

    Args:
        weight_quantizer: prototype `Quantizer` of the kernel, or None.
        input_quantizer: prototype `Quantizer` of the input, or None.
    """

    def __init__(
        self,
        *args: Any,
        weight_quantizer: Quantizer | dict[str, Any] | None = None,
        input_quantizer: Quantizer | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.weight_quantizer = clone(weight_quantizer, "weight_quantizer")
        self.input_quantizer = clone(input_quantizer, "input_quantizer")

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """A variable that keeps its type within a layer of another compute type, for the quantizer."""
        return super().add_weight(*args, **{"autocast": False, **kwargs})

    def _cast(self, x: tf.Tensor) -> tf.Tensor:
        """`x` in the type in which the layer computes; quantizers compute in float32."""
        return x if x.dtype == self.compute_dtype else tf.cast(x, self.compute_dtype)

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        for quantizer in self.quantizers:
            quantizer.build()

    def compute_output_spec(self, x: keras.KerasTensor, **sizes: Any) -> keras.KerasTensor:
        """The output without a trace, which would take a tenth of a second per layer and need set quantizers."""
        if sizes:
            return super().compute_output_spec(x, **sizes)
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype=self.compute_dtype)

    @property
    def quantizers(self) -> list[Quantizer]:
        """The layer's quantizers."""
        return [q for q in (self.weight_quantizer, self.input_quantizer) if q is not None]

    def quantized_inputs(self, x: tf.Tensor) -> tf.Tensor:
        """`x` on the grid of the input quantizer."""
        return x if self.input_quantizer is None else self._cast(self.input_quantizer(x, batched=True))

    def forgettable_inputs(self, x: tf.Tensor) -> tuple[tf.Tensor, Again | None]:
        """The quantized `x`, and the `Again` (or None) with which a convolution computes it a second time."""
        if self.input_quantizer is None:
            return x, None
        again = self.input_quantizer.again(x)
        return self.input_quantizer(x, batched=True, again=again), again

    def quantized_kernel(self, kernel: tf.Tensor | keras.Variable, **options: Any) -> tf.Tensor:
        """The kernel on the grid of the weight quantizer."""
        kernel = tf.convert_to_tensor(kernel)
        return self._cast(kernel if self.weight_quantizer is None else self.weight_quantizer(kernel, **options))

    def finish(self, y: tf.Tensor) -> tf.Tensor:
        """Adds the bias and applies the activation, as the plain layer does."""
        if self.use_bias:
            first = getattr(self, "data_format", None) == "channels_first"
            bias = self._cast(tf.convert_to_tensor(self.bias))
            y = y + (keras.ops.reshape(bias, (1, -1, 1, 1)) if first else bias)
        return y if self.activation is None else self.activation(y)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "weight_quantizer": serialize(self.weight_quantizer),
            "input_quantizer": serialize(self.input_quantizer),
        }


@keras.saving.register_keras_serializable("tfqnas")
class QuantConv2D(_Quantized, keras.layers.Conv2D):
    """`keras.layers.Conv2D` of the quantized input with the quantized kernel (OQA, equation 2)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = self.quantized_inputs(x)
        return self.finish(self.convolution_op(x, self.quantized_kernel(self.kernel)))


@keras.saving.register_keras_serializable("tfqnas")
class QuantDepthwiseConv2D(_Quantized, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` of the quantized input with the quantized kernel."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel = self.quantized_kernel(self.kernel)
        if self._has_fast_gradient:
            x, again = self.forgettable_inputs(x)
            return self.finish(depthwise_conv2d(x, kernel, (1, *self.strides, 1), again))
        y = keras.ops.depthwise_conv(
            self.quantized_inputs(x),
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self.finish(y)

    @property
    def _has_fast_gradient(self) -> bool:
        return (
            self.padding == "same"
            and self.compute_dtype == "float32"
            and self.data_format == "channels_last"
            and self.depth_multiplier == 1
            and tuple(self.dilation_rate) == (1, 1)
        )


@keras.saving.register_keras_serializable("tfqnas")
class QuantDense(_Quantized, keras.layers.Dense):
    """`keras.layers.Dense` of the quantized input with the quantized kernel."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = self.quantized_inputs(x)
        return self.finish(keras.ops.matmul(x, self.quantized_kernel(self.kernel)))
