"""MINIMUM: the smaller of two integers on one grid."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, constant, like, scale

KIND = "minimum"


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 1, 3), (5, 1, 1)])
def test_litert_computes_the_same_integers(shape, rng):
    x = activation("x", (5, 4, 3), scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, like(x, shape, "a"), like(x)], KIND, ("x", "a"))
    assert_computes(rng, [x, constant(rng, "a", (1, *shape), x.scale, x.zero_point), like(x)], KIND, ("x", "a"))


def of_branches(layers, x):
    return layers.GlobalAveragePooling2D()(
        layers.Minimum()([layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x), layers.Conv2D(4, 3)(x)])
    )


@pytest.mark.parametrize("build", [of_branches])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
