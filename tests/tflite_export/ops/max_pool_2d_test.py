"""MAX_POOL_2D: it only moves values."""

import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export.ops import common

KIND = "max_pool_2d"


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
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(layers.MaxPooling2D(2)(x)))


def with_padding(layers, x):
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.Conv2D(6, 3, padding="same", activation="relu")(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x))


@pytest.mark.parametrize("build", [of_pixels, with_padding])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_what_it_cannot_compute_is_refused(assert_refused):
    def channels_first(layers, x):
        return layers.MaxPooling2D(2, data_format="channels_first", name="p")(x)

    assert_refused("layer p .*data format channels_first", channels_first)
