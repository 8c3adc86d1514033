"""AVERAGE_POOL_2D: its kernel rounds halves away from zero and knows one scale for input and output."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export.ops import common

KIND = "average_pool_2d"


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("shape", "size", "strides"),
    [
        ((6, 6, 4), (2, 2), (2, 2)),
        ((7, 5, 3), (3, 3), (2, 2)),
        ((9, 8, 17), (3, 2), (1, 2)),
        ((1, 1, 5), (1, 1), (1, 1)),
    ],
)
def test_litert_computes_the_same_integers(shape, size, strides, padding, rng):
    lengths = [common.margins(n, k, s, padding)[2] for n, k, s in zip(shape, size, strides, strict=False)]
    x = activation("x", shape, contract.scale(rng), int(rng.integers(-128, 128)))
    y = activation("y", (*lengths, shape[2]), x.scale, x.zero_point)
    graph = graph_of([x, y], KIND, ("x",), size=size, strides=strides, padding=padding)
    contract.assert_litert_agrees(graph, contract.codes(rng, x))


def of_pixels(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(layers.AveragePooling2D(2)(x)))


def before_a_dense_layer(layers, x):
    x = layers.AveragePooling2D(2, 1)(layers.Conv2D(6, 3, padding="same")(x))
    return layers.Dense(5)(layers.Flatten()(x))


def with_padding(layers, x):
    x = layers.AveragePooling2D(3, 1, padding="same")(layers.Conv2D(6, 3, activation="relu")(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x))


@pytest.mark.parametrize("build", [of_pixels, before_a_dense_layer, with_padding])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def channels_first(layers, x):
    return layers.AveragePooling2D(2, data_format="channels_first", name="p")(x)


@pytest.mark.parametrize(("build", "message"), [(channels_first, "layer p .*data format channels_first")])
def test_what_it_cannot_compute_is_refused(build, message, assert_refused):
    assert_refused(message, build)


def test_a_tensor_of_few_bits_goes_to_8_bits_before_it_is_rounded(keras, same_weights):
    from tests.tflite_export.models import assert_exact, functional
    from tfqnas.layers import Quantize
    from tfqnas.quantizers import LSQ
    from tfqnas.supernet import initialize

    def build(x):
        x = Quantize(LSQ(4, signed=True))(keras.layers.Conv2D(4, 3)(x))
        return keras.layers.AveragePooling2D(2)(x)

    model, x = functional(build), images((6, 6, 4))
    initialize(model, x)
    graph, values = assert_exact(model, x, calibration="min_max")
    assert [op.kind for op in graph.ops][-2:] == ["mul", KIND]
    step, inside = graph.tensors[graph.output].scale[0], np.asarray(model(x))
    assert np.median(np.abs(values - inside)) <= 0.6 * step
