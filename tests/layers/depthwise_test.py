"""The depthwise convolution and both of its gradients against loops over the taps in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers.depthwise import depthwise_conv2d


def taps(x, kernel, stride):
    """For each tap of the kernel: its place, and which pixels of the padded input it reads (TensorFlow's SAME)."""
    (height, width), k = x.shape[1:3], kernel.shape[0]
    out = [-(-n // stride) for n in (height, width)]
    total = [max((o - 1) * stride + k - n, 0) for o, n in zip(out, (height, width), strict=True)]
    margins = [(t // 2, t - t // 2) for t in total]
    places = {
        (i, j): (slice(i, i + stride * (out[0] - 1) + 1, stride), slice(j, j + stride * (out[1] - 1) + 1, stride))
        for i in range(k)
        for j in range(k)
    }
    return margins, places


def oracle(x, kernel, stride, upstream):
    """`(output, gradient to x, gradient to the kernel)`; `upstream` is a function of the output."""
    margins, places = taps(x, kernel, stride)
    padded = np.pad(x, ((0, 0), *margins, (0, 0)))
    y = sum(padded[:, rows, columns] * kernel[i, j, :, 0] for (i, j), (rows, columns) in places.items())
    g = upstream(y)
    dx, dw = np.zeros_like(padded), np.zeros_like(kernel)
    for (i, j), (rows, columns) in places.items():
        dx[:, rows, columns] += g * kernel[i, j, :, 0]
        dw[i, j, :, 0] = np.sum(g * padded[:, rows, columns], axis=(0, 1, 2))
    (top, _), (left, _) = margins
    return y, dx[:, top : top + x.shape[1], left : left + x.shape[2]], dw


@pytest.fixture(scope="module")
def traced():
    """The gradients traced once for each stride, with every size unknown."""

    def make(stride):
        @tf.function(
            input_signature=[tf.TensorSpec((None, None, None, None)), tf.TensorSpec((None, None, None, 1))],
            autograph=False,
        )
        def gradients(x, kernel):
            y = depthwise_conv2d(x, kernel, (1, stride, stride, 1))
            return y, *tf.gradients(tf.reduce_sum(tf.sin(y)), [x, kernel])

        return gradients

    return {stride: make(stride) for stride in (1, 2)}


def eager(x, kernel, stride):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = depthwise_conv2d(x, kernel, (1, stride, stride, 1))
        loss = tf.reduce_sum(tf.sin(y))
    return y, *tape.gradient(loss, [x, kernel])


@pytest.mark.parametrize("sizes", ["static", "unknown"])
@pytest.mark.parametrize("shape", [(2, 9, 9, 4), (3, 8, 8, 5), (1, 7, 10, 1), (2, 3, 2, 3), (2, 1, 1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_value_and_gradients_are_those_of_the_oracle(k, stride, shape, sizes, traced, rng):
    x, kernel = rng.normal(size=shape), rng.normal(size=(k, k, shape[-1], 1))
    arguments = [tf.constant(a, tf.float32) for a in (x, kernel)]
    computed = traced[stride](*arguments) if sizes == "unknown" else eager(*arguments, stride)
    expected = oracle(x, kernel, stride, np.cos)
    for name, ours, theirs in zip(("y", "dx", "dkernel"), computed, expected, strict=True):
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * np.abs(theirs).max(), err_msg=name)


def test_the_shape_of_the_filter_stays_known_in_a_graph():
    seen = []

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 4))], autograph=False)
    def gradients(x):
        kernel = tf.ones((5, 5, 4, 1))
        (gradient,) = tf.gradients(depthwise_conv2d(x, kernel, (1, 1, 1, 1)), [kernel])
        seen.append(gradient.shape)
        return gradient

    gradients.get_concrete_function()
    assert seen == [(5, 5, 4, 1)]
