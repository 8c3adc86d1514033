"""CONV_2D: convolutions, and dense layers of every pixel."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tflite_export import reference
from tflite_export.int_graph import IntGraph

KIND = "conv_2d"


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("fused", ["none", "relu"])
@pytest.mark.parametrize(
    ("shape", "filters", "size", "options"),
    [
        ((9, 9, 5), 12, 3, {}),
        ((9, 8, 1), 12, 3, {"strides": (2, 2)}),
        ((5, 5, 40), 24, 1, {}),
        ((1, 1, 33), 7, 1, {}),
        ((7, 7, 3), 6, 5, {"padding": "valid"}),
    ],
)
def test_litert_computes_the_same_integers(shape, filters, size, options, fused, bits, rng):
    graph = contract.convolution(rng, KIND, shape, filters, size, bits, activation=fused, **options)
    contract.assert_litert_agrees(graph, contract.codes(rng, graph.tensors["x"]))


def test_one_scale_for_all_channels(rng):
    graph = contract.convolution(rng, KIND, (5, 5, 8), 6, 3, 8, per_channel=False)
    contract.assert_litert_agrees(graph, contract.codes(rng, graph.tensors["x"]))


def test_relu6_ends_at_six(rng):
    graph = contract.convolution(rng, KIND, (6, 6, 4), 6, 3, 8, activation="relu6")
    y = contract.activation("y", graph.tensors["y"].shape, np.float32([0.0471]), -128)
    graph = IntGraph({**graph.tensors, "y": y}, graph.ops, ("x",), ("y",))
    x = contract.codes(rng, graph.tensors["x"])
    assert reference.run(graph, x).max() == -128 + 127 or reference.run(graph, x).max() < 0
    contract.assert_litert_agrees(graph, x)


def test_factors_are_rounded_in_xnnpacks_order(rng):
    contract.assert_factors_are_rounded_in_xnnpacks_order(KIND, rng)


def padded(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, strides=2, activation="relu")(x))


def gate(layers, x):
    """The hard sigmoid is the convolution, divided by six."""
    y = layers.Conv2D(4, 1, padding="same", activation="hard_sigmoid")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, layers.Conv2D(4, 3, padding="same")(x)]))


def dense_layer_of_pixels(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Dense(4, activation="relu")(x))


def one_relu_for_all(layers, x):
    relu = layers.ReLU()
    x = relu(layers.Conv2D(4, 3, padding="same")(x))
    return layers.GlobalAveragePooling2D()(relu(layers.Conv2D(4, 3, padding="same")(x)))


def dilated(layers, x):
    x = layers.Conv2D(6, 3, padding="same", dilation_rate=2, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, dilation_rate=(1, 2))(x))


def in_groups(layers, x):
    x = layers.Conv2D(8, 3, padding="same", groups=4, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, strides=2, groups=2)(x))


def called_twice(layers, x):
    layer = layers.Conv2D(4, 3, padding="same", activation="relu")
    return layers.GlobalAveragePooling2D()(layer(layer(x)))


BUILDS = [padded, gate, dense_layer_of_pixels, one_relu_for_all]


@pytest.mark.parametrize("build", BUILDS)
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "selu"}, r"layer inner_activation \(Activation\).*activation selu, expected one of"),
        ({"data_format": "channels_first"}, "layer inner .*data format channels_first"),
    ],
    ids=["activation", "channels-first"],
)
def test_what_it_cannot_compute_is_refused(settings, message, assert_refused):
    assert_refused(message, lambda layers, x: layers.Conv2D(4, 3, name="inner", **settings)(x))


@pytest.mark.parametrize("build", [dilated, in_groups, called_twice])
def test_forms_that_networks_rarely_have_are_exact(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
