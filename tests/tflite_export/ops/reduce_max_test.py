"""REDUCE_MAX: the largest integer over some axes."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "reduce_max"


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (1, 2, 3)])
def test_litert_computes_the_same_integers(axes, keep_dims, rng):
    x = activation("x", (5, 4, 3), scale(rng), int(rng.integers(-128, 128)))
    shape = [1 if place in axes else n for place, n in enumerate(x.shape, 1) if keep_dims or place not in axes]
    assert_computes(rng, [x, like(x, shape)], KIND, axes=axes, keep_dims=keep_dims)


def along_the_width(layers, x):
    import keras

    return layers.Flatten()(keras.ops.max(layers.Conv2D(3, 3)(x), axis=2))


@pytest.mark.parametrize("build", [along_the_width])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
