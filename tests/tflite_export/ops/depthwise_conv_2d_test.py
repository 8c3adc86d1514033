"""DEPTHWISE_CONV_2D: a kernel a channel; and, with kernels of one, a BatchNorm or an activation on its own."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops import contract

KIND = "depthwise_conv_2d"


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("fused", ["none", "relu"])
@pytest.mark.parametrize(
    ("shape", "size", "options"),
    [
        ((9, 7, 12), 3, {}),
        ((9, 9, 17), 5, {"strides": (2, 2)}),
        ((5, 5, 8), 7, {}),
        ((7, 6, 5), 3, {"padding": "valid", "strides": (1, 2)}),
    ],
)
def test_litert_computes_the_same_integers(shape, size, options, fused, bits, rng):
    graph = contract.convolution(rng, KIND, shape, 0, size, bits, activation=fused, **options)
    contract.assert_litert_agrees(graph, contract.codes(rng, graph.tensors["x"]))


def test_factors_are_rounded_in_xnnpacks_order(rng):
    contract.assert_factors_are_rounded_in_xnnpacks_order(KIND, rng)


def depthwise(layers, x):
    x = layers.Conv2D(5, 1, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, strides=2, activation="relu6")(x))


def norms_on_their_own(layers, x):
    """On pixels, behind a pool, behind an activation."""
    for size in (1, 2):
        norm = layers.BatchNormalization()
        x = norm(layers.AveragePooling2D(size)(x) if size > 1 else x)
        x = layers.Conv2D(5, 3, padding="same", activation="relu")(x)
        channels = norm.gamma.shape[0]
        norm.set_weights([np.linspace(-1, 2, channels), *np.random.default_rng(0).random((3, channels))])
    return layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))


def of_several_filters(layers, x):
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x))


def norm_of_a_vector(layers, x):
    return layers.Dense(5)(layers.BatchNormalization()(layers.Dense(6, activation="relu")(layers.Flatten()(x))))


@pytest.mark.parametrize("build", [depthwise, norms_on_their_own])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 5, 2), (8, 6, 1)])
def test_odd_and_even_sizes_with_strides(size, stride, keras, same_weights):
    from tests.tflite_export.models import assert_exact, chain
    from tfqnas.layers import QuantDepthwiseConv2D
    from tfqnas.quantizers import LSQ

    quantizers = {"weight_quantizer": LSQ(4), "input_quantizer": LSQ(4, signed=False)}
    depthwise = QuantDepthwiseConv2D(5, strides=stride, padding="same", **quantizers)
    first = keras.layers.Conv2D(6, 3, strides=stride, padding="same", activation="relu")
    assert_exact(chain(first, depthwise, shape=size), images(size))


def test_what_it_cannot_compute_is_refused(assert_refused):
    def other_axis(layers, x):
        return layers.BatchNormalization(axis=1, name="norm")(layers.Conv2D(6, 1)(x))

    assert_refused("layer norm .*axis 1, expected the last one", other_axis)


@pytest.mark.parametrize("build", [of_several_filters, norm_of_a_vector])
def test_forms_that_networks_rarely_have_are_exact(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
