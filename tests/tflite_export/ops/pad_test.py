"""PAD: with the integer that stands for zero."""

import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of

KIND = "pad"


@pytest.mark.parametrize(
    "paddings", [((1, 1), (1, 1), (0, 0)), ((0, 1), (2, 1), (0, 0)), ((3, 0), (0, 0), (0, 1)), ((0, 0),) * 3]
)
@pytest.mark.parametrize("zero", [0, -128, 127, 31])
def test_litert_computes_the_same_integers(zero, paddings, rng):
    x = activation("x", (5, 4, 3), contract.scale(rng), zero)
    shape = [n + sum(margin) for n, margin in zip(x.shape, paddings, strict=False)]
    y = activation("y", tuple(shape), x.scale, zero)
    contract.assert_litert_agrees(graph_of([x, y], KIND, ("x",), paddings=paddings), contract.codes(rng, x))


def of_pixels(layers, x):
    x = layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, strides=2)(x))


def of_activations(layers, x):
    x = layers.ZeroPadding2D(1)(layers.Conv2D(4, 3, activation="relu")(x))
    return layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(x))


@pytest.mark.parametrize("build", [of_pixels, of_activations])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_what_it_cannot_compute_is_refused(assert_refused):
    def channels_first(layers, x):
        return layers.ZeroPadding2D(1, data_format="channels_first", name="p")(x)

    assert_refused("layer p .*data format channels_first", channels_first)
