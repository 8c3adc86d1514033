"""MAXIMUM: the larger of two integers on one grid."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, constant, like, scale

KIND = "maximum"


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 3), (5, 1, 1)])
def test_litert_computes_the_same_integers(shape, rng):
    x = activation("x", (5, 4, 3), scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, like(x, shape, "a"), like(x)], KIND, ("x", "a"))
    assert_computes(rng, [x, constant(rng, "a", (1, *shape), x.scale, x.zero_point), like(x)], KIND, ("x", "a"))


def of_branches(layers, x):
    return layers.GlobalAveragePooling2D()(
        layers.Maximum()([layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)])
    )


def prelu(layers, x):
    slopes = {"alpha_initializer": "random_uniform", "shared_axes": [1, 2]}
    return layers.GlobalAveragePooling2D()(layers.PReLU(**slopes)(layers.Conv2D(4, 3)(x)))


def leaky(layers, x):
    y = layers.LeakyReLU(0.1)(layers.Conv2D(4, 3)(x))
    return layers.GlobalAveragePooling2D()(layers.ReLU(0.5, negative_slope=0.2)(layers.Conv2D(4, 3)(y)))


def absolute(layers, x):
    return layers.GlobalAveragePooling2D()(abs(layers.Conv2D(4, 3)(x)))


@pytest.mark.parametrize("build", [of_branches, prelu, leaky, absolute])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
