"""Elastic layers: a subnet's result is that of a small layer of its own with the sliced weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers import (
    ElasticBatchNorm,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    ElasticSqueezeExcite,
    QuantConv2D,
    QuantDepthwiseConv2D,
)
from tfqnas.quantizers import LSQ

QUANTIZERS = {"weight_quantizer": LSQ(bits=4), "input_quantizer": LSQ(bits=4, signed=False)}
NONE = {"weight_quantizer": None, "input_quantizer": None}
quantized = pytest.mark.parametrize("quantizers", [QUANTIZERS, NONE], ids=["quantized", "float"])
# How a size reaches the layer: as a number, or as a tensor in a graph that knows no number of channels.
given_as = pytest.mark.parametrize("given_as", ["numbers", "tensors"])


def filled(layer, channels, rng):
    layer.build((None, None, None, channels))
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    for quantizer, step in zip(getattr(layer, "quantizers", ()), (0.23, 0.11), strict=False):
        quantizer.step.assign(step)
    return layer


def images(rng, channels, size=7):
    return tf.constant(rng.normal(size=(3, size, size, channels)), tf.float32)


def called(layer, x, as_, **sizes):
    """`layer(x, **sizes)`, and the gradients of the sum of squares to `x` and the layer's variables."""
    variables = [v.value for v in layer.trainable_variables]

    def compute(x, *values):
        y = layer(x, **dict(zip(sizes, values, strict=True)))
        return y, tf.reduce_sum(y * y)

    if as_ == "numbers":
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, loss = compute(x, *sizes.values())
        return y, tape.gradient(loss, [x, *variables])

    signature = [tf.TensorSpec((None, None, None, None))] + [tf.TensorSpec((), tf.int32)] * len(sizes)

    @tf.function(input_signature=signature, autograph=False)
    def graph(x, *values):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, loss = compute(x, *values)
        return y, [tf.convert_to_tensor(g) for g in tape.gradient(loss, [x, *variables])]

    return graph(x, *(tf.constant(v) for v in sizes.values()))


def assert_same(ours, small, slices):
    """Outputs are equal; gradients too, `slices` of ours, and zero elsewhere."""
    (y, (dx, *gradients)), (expected_y, (expected_dx, *expected)) = ours, small
    np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-4, atol=1e-4)
    for gradient, theirs, where in zip(gradients, expected, slices, strict=True):
        embedded = np.zeros(gradient.shape)
        embedded[where] = theirs
        tolerance = 1e-5 * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), embedded, rtol=1e-4, atol=tolerance)


def small_copy(cls, layer, kernel, bias=None, **settings):
    small = cls(
        kernel_size=kernel.shape[:2],
        strides=layer.strides,
        padding=layer.padding,
        use_bias=bias is not None,
        weight_quantizer=layer.weight_quantizer,
        input_quantizer=layer.input_quantizer,
        **settings,
    )
    small.build((None, None, None, kernel.shape[2]))
    small.kernel.assign(kernel)
    if bias is not None:
        small.bias.assign(bias)
    for own, shared in zip(small.quantizers, layer.quantizers, strict=True):
        own.step.assign(shared.step)
    return small


# -- Convolution ---------------------------------------------------------------------------------------------


@quantized
@given_as
@pytest.mark.parametrize(
    ("channels", "filters", "settings"),
    [
        (5, 3, {"kernel_size": 3, "padding": "same"}),
        (5, 3, {"kernel_size": 3, "padding": "valid", "strides": 2}),
        (2, 8, {"kernel_size": 1, "use_bias": False}),
        (6, 1, {"kernel_size": 1}),
    ],
)
def test_a_convolution_takes_the_first_inputs_and_gives_the_first_filters(
    channels, filters, settings, given_as, quantizers, rng
):
    layer = filled(ElasticConv2D(8, **settings, **quantizers), 6, rng)
    bias = layer.bias.numpy()[:filters] if layer.use_bias else None
    small = small_copy(QuantConv2D, layer, layer.kernel.numpy()[:, :, :channels, :filters], bias, filters=filters)
    x = images(rng, channels)
    slices = [np.s_[:, :, :channels, :filters]] + [np.s_[:filters]] * layer.use_bias + [()] * len(layer.quantizers)
    assert_same(called(layer, x, given_as, filters=filters), called(small, x, "numbers"), slices)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (ElasticConv2D, {"activation": "relu"}, "ElasticConv2D: activation: expected .*linear.*, received .*relu"),
        (ElasticConv2D, {"groups": 2}, "ElasticConv2D: groups: expected 1, received 2"),
        (ElasticConv2D, {"dilation_rate": 2}, r"dilation_rate: expected \(1, 1\), received \(2, 2\)"),
        (ElasticConv2D, {"data_format": "channels_first"}, "data_format: expected 'channels_last'"),
        (ElasticDepthwiseConv2D, {"use_bias": False}, "padding: expected 'same', received 'valid'"),
        (ElasticDepthwiseConv2D, {"padding": "same"}, "use_bias: expected False, received True"),
        (ElasticDepthwiseConv2D, {"padding": "same", "use_bias": False, "depth_multiplier": 2}, "depth_multiplier"),
        (ElasticDepthwiseConv2D, {"padding": "same", "use_bias": False, "activation": "relu"}, "activation"),
    ],
)
def test_a_setting_that_the_elastic_layer_does_not_compute_is_refused(cls, settings, message):
    arguments = (4, 3) if cls is ElasticConv2D else (3,)
    with pytest.raises(ValueError, match=message):
        cls(*arguments, **settings)


# -- Depthwise convolution -----------------------------------------------------------------------------------


def depthwise(rng, transform=False, strides=1, quantizers=NONE):
    layer = ElasticDepthwiseConv2D(
        7,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_sizes=(3, 5, 7),
        kernel_transform=transform,
        **quantizers,
    )
    return filled(layer, 6, rng)


@quantized
@given_as
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("channels", [4, 6])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_smaller_depthwise_kernel_is_the_centre_of_the_largest(size, channels, strides, given_as, quantizers, rng):
    layer = depthwise(rng, strides=strides, quantizers=quantizers)
    margin = (7 - size) // 2
    centre = np.s_[margin : 7 - margin, margin : 7 - margin, :channels]
    small = small_copy(QuantDepthwiseConv2D, layer, layer.kernel.numpy()[centre])
    x = images(rng, channels)
    slices = [centre] + [()] * len(layer.quantizers)
    assert_same(called(layer, x, given_as, kernel_size=size), called(small, x, "numbers"), slices)


def transformed(layer, size, channels):
    """Once-for-all's kernel transform by explicit loops: each size from the centre of the next larger one."""
    kernel, largest = np.float64(layer.kernel.numpy())[:, :, :channels, 0], layer.kernel.shape[0]
    for smaller in range(largest - 2, size - 1, -2):
        matrix = np.float64(layer.transforms[str(smaller)].numpy())
        result = np.zeros((smaller, smaller, channels))
        for out in range(smaller**2):
            for source in range(smaller**2):
                (i, j), (p, q) = divmod(out, smaller), divmod(source, smaller)
                result[i, j] += matrix[out, source] * kernel[p + 1, q + 1]
        kernel = result
    return kernel[..., np.newaxis]


@pytest.mark.parametrize("channels", [4, 6])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_transformed_kernel_is_the_centre_times_one_matrix_a_step_down(size, channels, rng):
    layer = depthwise(rng, transform=True)
    expected = transformed(layer, size, channels)
    for given in (size, tf.constant(size)):
        np.testing.assert_allclose(layer.view(given, channels), expected, rtol=1e-4, atol=1e-4)
    x = images(rng, channels)
    small = small_copy(QuantDepthwiseConv2D, layer, expected)
    for as_ in ("numbers", "tensors"):
        y, _ = called(layer, x, as_, kernel_size=size)
        np.testing.assert_allclose(y, small(x), rtol=1e-4, atol=1e-3)


def test_transforms_start_as_the_plain_centre_and_are_trained(rng):
    layer = ElasticDepthwiseConv2D(7, padding="same", use_bias=False, kernel_sizes=(3, 5, 7), kernel_transform=True)
    layer.build((None, None, None, 4))
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    assert {name: m.shape for name, m in layer.transforms.items()} == {"5": (25, 25), "3": (9, 9)}
    for size, margin in ((3, 2), (5, 1), (7, 0)):
        np.testing.assert_array_equal(layer.view(size), layer.kernel.numpy()[margin : 7 - margin, margin : 7 - margin])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(images(rng, 4), kernel_size=3) ** 2)
    gradients = tape.gradient(loss, [m.value for m in layer.transforms.values()])
    assert all(np.abs(g).max() > 0 for g in gradients)


def test_transforms_need_to_know_the_kernel_sizes():
    with pytest.raises(ValueError, match="kernel_transform needs kernel_sizes"):
        ElasticDepthwiseConv2D(7, padding="same", use_bias=False, kernel_transform=True)


# -- BatchNorm -----------------------------------------------------------------------------------------------


def batch_norm(rng):
    return filled(ElasticBatchNorm(epsilon=1e-3), 6, rng)


def normalized(layer, x, mean, variance):
    channels = x.shape[-1]
    gamma, beta = (np.float64(v.numpy())[:channels] for v in (layer.gamma, layer.beta))
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


@given_as
@pytest.mark.parametrize("channels", [4, 6])
def test_batch_norm_normalises_by_the_statistics_of_the_batch(channels, given_as, rng):
    layer, x = batch_norm(rng), images(rng, channels) * 3 + 2
    x64 = np.float64(x)
    y, (_, dgamma, dbeta) = called(layer, x, given_as)
    expected = normalized(layer, x64, x64.mean(axis=(0, 1, 2)), x64.var(axis=(0, 1, 2)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    # Of the sum of squares; to beta 2 y, to gamma 2 y times the normalised x.
    hat = (expected - layer.beta.numpy()[:channels]) / layer.gamma.numpy()[:channels]
    for gradient, theirs in ((dbeta, 2 * expected), (dgamma, 2 * expected * hat)):
        embedded = np.pad(theirs.sum(axis=(0, 1, 2)), (0, 6 - channels))
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), embedded, rtol=1e-3, atol=1e-2)


@given_as
@pytest.mark.parametrize("channels", [4, 6])
def test_batch_norm_normalises_by_given_statistics(channels, given_as, rng):
    layer, x = batch_norm(rng), images(rng, channels)
    statistics = np.float32(np.stack([rng.normal(size=6), rng.uniform(0.5, 2, 6)]))
    if given_as == "numbers":
        y = layer(x, statistics=statistics)
    else:
        y = tf.function(
            lambda x, s: layer(x, statistics=s),
            autograph=False,
            input_signature=[tf.TensorSpec((None, None, None, None)), tf.TensorSpec((2, 6))],
        )(x, statistics)
    expected = normalized(layer, np.float64(x), *np.float64(statistics)[:, :channels])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [4, 6])
@pytest.mark.parametrize("batch", [1, 3])
def test_collected_statistics_are_the_mean_and_the_population_variance(batch, channels, rng):
    """Not Bessel's, which TensorFlow's kernel reports: normalising with them gives what training computed."""
    layer = batch_norm(rng)
    x = images(rng, channels, size=2)[:batch] * 3 + 2
    y, statistics = layer(x, collect=True)
    expected = [np.mean(np.float64(x), axis=(0, 1, 2)), np.var(np.float64(x), axis=(0, 1, 2))]
    assert statistics.shape == (2, 6)
    np.testing.assert_allclose(statistics[:, :channels], expected, rtol=1e-4)
    np.testing.assert_array_equal(statistics[:, channels:], 0)
    np.testing.assert_allclose(layer(x, statistics=statistics), y, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer(x), y)


# -- Squeeze-and-excitation ----------------------------------------------------------------------------------


@given_as
@pytest.mark.parametrize(("channels", "squeezed"), [(4, 2), (4, 5), (6, 2), (6, 5)])
def test_squeeze_excite_is_the_small_one_of_keras_layers(channels, squeezed, given_as, rng):
    layer = filled(ElasticSqueezeExcite(5), 6, rng)
    reduce = keras.layers.Conv2D(squeezed, 1, activation="relu")
    expand = keras.layers.Conv2D(channels, 1, activation="hard_sigmoid")
    reduce.build((None, 1, 1, channels))
    expand.build((None, 1, 1, squeezed))
    reduce.set_weights([layer.reduce.kernel.numpy()[:, :, :channels, :squeezed], layer.reduce.bias.numpy()[:squeezed]])
    expand.set_weights([layer.expand.kernel.numpy()[:, :, :squeezed, :channels], layer.expand.bias.numpy()[:channels]])
    x = images(rng, channels)
    expected = x * expand(reduce(keras.layers.GlobalAveragePooling2D(keepdims=True)(x)))
    y, _ = called(layer, x, given_as, squeezed=squeezed)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
