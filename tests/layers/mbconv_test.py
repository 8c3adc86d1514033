"""The elastic inverted residual block against one of small Keras layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers import ElasticMBConv, QuantConv2D, QuantDepthwiseConv2D, keras_activation
from tfqnas.quantizers import LSQ

CASES = [
    pytest.param({}, id="plain"),
    pytest.param({"stride": 2}, id="stride-2"),
    pytest.param({"residual": True}, id="residual"),
    pytest.param({"se_channels": 8, "activation": "hswish", "residual": True}, id="se-hswish-residual"),
    pytest.param({"has_expansion": False, "activation": "relu6", "residual": True}, id="no-expansion-relu6"),
    pytest.param({"kernel_transform": True, "se_channels": 8}, id="transform-se"),
    pytest.param({"bits": 4, "se_channels": 8, "activation": "hswish", "residual": True}, id="4-bits-se-hswish"),
]


def make(rng, bits=None, has_expansion=True, **settings):
    quantizers = {}
    if bits:
        quantizers = {"weight_quantizer": LSQ(bits=bits), "input_quantizer": LSQ(bits=bits, signed=False)}
    block = ElasticMBConv(16 if has_expansion else 8, 8, (3, 5), has_expansion=has_expansion, **settings, **quantizers)
    block.build((None, None, None, 8))
    for variable in block.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.5 + (variable.name == "gamma"))
    for quantizer in block.quantizers:
        quantizer.step.assign(0.2)
    return block


def expected(block, x, kernel_size, hidden, squeezed, statistics):
    """The same block of small layers in the order of MobileNetV3."""
    settings = block.settings

    def convolution(cls, source, y, kernel, **arguments):
        layer = cls(
            use_bias=False,
            padding="same",
            weight_quantizer=source.weight_quantizer,
            input_quantizer=source.input_quantizer,
            **arguments,
        )
        layer.build(y.shape)
        layer.kernel.assign(kernel)
        for own, shared in zip(layer.quantizers, source.quantizers, strict=True):
            own.step.assign(shared.step)
        return layer(y)

    def norm(source, y, statistics):
        width = y.shape[-1]
        layer = keras.layers.BatchNormalization(epsilon=1e-5)
        layer.build(y.shape)
        layer.set_weights([source.gamma[:width], source.beta[:width], *statistics[:, :width]])
        return layer(y, training=False)

    activation = keras.activations.get(keras_activation(settings["activation"]))
    given = iter(statistics)
    y = x
    if settings["has_expansion"]:
        y = convolution(QuantConv2D, block.expand, y, block.expand.kernel[..., :hidden], filters=hidden, kernel_size=1)
        y = activation(norm(block.expand_norm, y, next(given)))
    kernel = block.depthwise.view(kernel_size, hidden)
    y = convolution(
        QuantDepthwiseConv2D, block.depthwise, y, kernel, kernel_size=kernel_size, strides=settings["stride"]
    )
    y = activation(norm(block.depthwise_norm, y, next(given)))
    if settings["se_channels"]:
        y = block.squeeze_excite(y, squeezed=squeezed)  # has a test of its own
    y = convolution(QuantConv2D, block.project, y, block.project.kernel[:, :, :hidden], filters=8, kernel_size=1)
    y = norm(block.project_norm, y, next(given))
    return x + y if settings["residual"] else y


@pytest.mark.parametrize("settings", CASES)
def test_a_block_is_that_of_small_layers_with_the_sliced_weights(settings, rng):
    block = make(rng, **settings)
    x = tf.constant(rng.normal(size=(2, 6, 6, 8)), tf.float32)
    statistics = [
        np.float32(np.stack([rng.normal(size=n.gamma.shape[0]), rng.uniform(0.5, 2, n.gamma.shape[0])]))
        for n in block.observers
    ]
    widths = ((8, 3), (16, 6)) if block.expand is not None else ((8, 3),)
    for kernel_size in (3, 5):
        for hidden, squeezed in widths:
            sizes = {"kernel_size": kernel_size, "hidden": hidden, "se_channels": squeezed}
            theirs = expected(block, x, kernel_size, hidden, squeezed, statistics)
            tensors = {name: tf.constant(size) for name, size in sizes.items()}
            for given in (sizes, tensors):
                y = block(x, statistics=statistics, **given)
                np.testing.assert_allclose(y, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", CASES)
def test_without_sizes_a_block_is_the_largest(settings, rng):
    block = make(rng, **settings)
    x = tf.constant(rng.normal(size=(2, 6, 6, 8)), tf.float32)
    hidden = block.settings["hidden"]
    largest = block(x, kernel_size=5, hidden=hidden, se_channels=block.settings["se_channels"] or None)
    np.testing.assert_allclose(block(x), largest, rtol=1e-5, atol=1e-5)


def test_collected_statistics_give_what_the_batch_gave(rng):
    block = make(rng, se_channels=8, residual=True, activation="hswish")
    x = tf.constant(rng.normal(size=(4, 6, 6, 8)), tf.float32)
    sizes = {"kernel_size": 3, "hidden": 8, "se_channels": 5}
    y, statistics = block(x, collect=True, **sizes)
    np.testing.assert_array_equal(block(x, **sizes), y)
    assert [s.shape for s in statistics] == [(2, o.statistics_size) for o in block.observers]
    np.testing.assert_allclose(block(x, statistics=statistics, **sizes), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("has_expansion", [True, False])
def test_each_convolution_has_a_quantizer_for_weights_and_one_for_inputs(has_expansion, rng):
    block = make(rng, bits=3, se_channels=8, has_expansion=has_expansion)
    assert [q.path.split("/")[-2:] for q in block.quantizers] == [
        [layer, role]
        for layer in (["expand"] if has_expansion else []) + ["depthwise", "project"]
        for role in ("weight_quantizer", "input_quantizer")
    ]
    assert len({id(q) for q in block.quantizers}) == len(block.quantizers)
    assert all(q.bits == 3 and q.signed == (q.name == "weight_quantizer") for q in block.quantizers)
