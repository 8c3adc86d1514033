"""A convolution that does not keep its quantized input for the gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfqnas.quantizers.base import Again


def conv2d(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str, again: Again | None = None
) -> tf.Tensor:
    """`tf.nn.conv2d(x, kernel, strides, padding)` that need not keep `x` for the gradient to the kernel.

    Args:
        x: float32 (batch, height, width, channels).
        kernel: float32 (height, width, channels, filters); sizes may be unknown during tracing.
        strides: two ints.
        padding: "SAME" or "VALID".
        again: the `Again` that computes `x` a second time, or None to keep it.

    Returns:
        float32 (batch, height, width, filters).
    """
    if again is None:
        return tf.nn.conv2d(x, kernel, strides, padding)

    @tf.custom_gradient
    def convolve(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        sizes = tf.shape(x)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            arguments = {"out_backprop": upstream, "strides": (1, *strides, 1), "padding": padding}
            dx = tf.raw_ops.Conv2DBackpropInput(input_sizes=sizes, filter=kernel, **arguments)
            dkernel = tf.raw_ops.Conv2DBackpropFilter(input=again(upstream), filter_sizes=tf.shape(kernel), **arguments)
            return dx, tf.ensure_shape(dkernel, kernel.shape)

        return tf.nn.conv2d(x, kernel, strides, padding), gradient

    return convolve(x, kernel)
