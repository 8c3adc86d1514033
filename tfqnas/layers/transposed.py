"""The quantized transposed convolution."""

import keras
import tensorflow as tf

from tfqnas.layers.quantized import _Quantized


@keras.saving.register_keras_serializable("tfqnas")
class QuantConv2DTranspose(_Quantized, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` of the quantized input with the quantized kernel.

    Its kernel is (height, width, filters, input channels), so the axis of a scale for each channel is 2.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = keras.ops.conv_transpose(
            self.quantized_inputs(x),
            self.quantized_kernel(self.kernel),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.finish(y)
