import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers.convolution import conv2d
from tfqnas.layers.depthwise import depthwise_conv2d
from tfqnas.quantizers import LSQ
from tfqnas.quantizers.base import Again

STRIDES = (2, 2)


def plain(x, kernel, again=None):
    return tf.nn.conv2d(x, kernel, STRIDES, "SAME")


def forgetful(x, kernel, again=None):
    return conv2d(x, kernel, STRIDES, "SAME", again)


def depthwise(x, kernel, again=None):
    return depthwise_conv2d(x, kernel[:, :, :, :1], (1, *STRIDES, 1), again)


@pytest.fixture
def quantizer():
    quantizer = LSQ(bits=3, signed=False)
    quantizer.build()
    quantizer.step.assign(0.2)
    return quantizer


def gradients(convolve, quantizer, x, kernel, use_again):
    """Output, and the gradients to input, kernel and step, of the convolution of the quantized `x`."""
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        again = quantizer.again(x) if use_again else None
        y = convolve(quantizer(x, batched=True, again=again), kernel, again)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [x, kernel, quantizer.step.value])]


@pytest.fixture
def tensors(rng):
    x = tf.constant(rng.normal(size=(4, 6, 6, 8)) + 0.5, tf.float32)
    return x, tf.constant(0.2 * rng.normal(size=(3, 3, 8, 5)), tf.float32)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("convolve", "reference"), [(forgetful, plain), (depthwise, depthwise)])
def test_what_is_computed_anew_gives_the_gradients_of_what_is_kept(quantizer, tensors, convolve, reference, graph):
    def both(x, kernel):
        return gradients(convolve, quantizer, x, kernel, True), gradients(reference, quantizer, x, kernel, False)

    ours, theirs = (tf.function(both) if graph else both)(*tensors)
    for own, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)


def test_inside_a_conditional_it_gives_the_same_gradients(quantizer, tensors):
    @tf.function
    def conditional(x, kernel, taken):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])

            def compute():
                again = quantizer.again(x)
                return conv2d(quantizer(x, batched=True, again=again), kernel, STRIDES, "SAME", again)

            y = tf.cond(taken, compute, lambda: tf.zeros((4, 3, 3, 5)))
            loss = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(loss, [x, kernel, quantizer.step.value])]

    for own, expected in zip(
        conditional(*tensors, tf.constant(True)), gradients(plain, quantizer, *tensors, False), strict=True
    ):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_rounds_once_more_and_not_twice(quantizer, tensors):
    function = tf.function(lambda x, k: gradients(forgetful, quantizer, x, k, True)[1:])
    graph = function.get_concrete_function(*tensors).graph
    rounding = [op for op in graph.get_operations() if op.type == "QuantizeAndDequantizeV3"]
    assert len(rounding) == 2
    # Only the second one, in the gradient, waits for something: without that they would be merged into one.
    waits = [any(before.control_inputs for before in (op, *(x.op for x in op.inputs))) for op in rounding]
    assert waits == [False, True]


def test_without_it_the_convolution_is_tensorflows_own(tensors):
    x, kernel = tensors
    np.testing.assert_array_equal(conv2d(x, kernel, STRIDES, "SAME"), plain(x, kernel))


def test_a_value_is_taken_over_once():
    computed = []

    def compute():
        computed.append(1)
        return tf.constant(3.0)

    again, upstream = Again(compute), tf.constant(1.0)
    for expected in (1, 1, 2, 2):
        assert again(upstream) == 3.0
        assert len(computed) == expected
