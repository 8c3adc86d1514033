"""A depthwise convolution whose filter gradient is fast on CPUs, and exact to float rounding."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfqnas.quantizers.base import Again


def depthwise_conv2d(x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], again: Again | None = None) -> tf.Tensor:
    """`tf.nn.depthwise_conv2d` with SAME padding and another filter gradient.

    On CPUs TensorFlow uses oneDNN, whose filter gradient is fast only for 3 x 3. For larger kernels on small maps it
    takes up to 15 times as long as TensorFlow's own kernel (48 ms instead of 3 ms for 7 x 7 on 3 x 3 pixels with 960
    channels), more than the rest of a training step. EXPLICIT padding, which oneDNN does not support, selects
    TensorFlow's own kernel.

    Args:
        x: float32 (batch, height, width, channels).
        kernel: float32 (k, k, channels, 1), k odd; sizes may be unknown during tracing.
        strides: (1, s, s, 1).
        again: the `Again` that computes `x` a second time for the gradient, or None to keep it.

    Returns:
        float32 (batch, ceil(height / s), ceil(width / s), channels).
    """

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        sizes = tf.shape(x)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=sizes, filter=kernel, out_backprop=upstream, strides=strides, padding="SAME"
            )
            inputs = x if again is None else again(upstream)
            return dx, _filter_gradient(inputs, kernel, upstream, strides)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return convolve(x, kernel)


def _filter_gradient(x: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor, strides: Sequence[int]) -> tf.Tensor:
    sizes = tf.shape(kernel)
    arguments = {"filter_sizes": sizes, "out_backprop": upstream, "strides": strides}

    def onednn() -> tf.Tensor:
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(input=x, padding="SAME", **arguments)

    def own() -> tf.Tensor:
        stride = strides[1]
        size, out = tf.shape(x)[1:3], tf.shape(upstream)[1:3]
        total = tf.maximum((out - 1) * stride + sizes[:2] - size, 0)
        margins = tf.stack([total // 2, total - total // 2], axis=1)
        padded = tf.pad(x, tf.pad(margins, ((1, 1), (0, 0))))
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=padded, padding="EXPLICIT", explicit_paddings=[0] * 8, **arguments
        )

    if tf.config.list_physical_devices("GPU"):
        return onednn()
    static = kernel.shape[0]
    if static is not None:
        return onednn() if static <= 3 else own()
    gradient = tf.cond(sizes[0] <= 3, onednn, own)
    return tf.ensure_shape(gradient, kernel.shape)
