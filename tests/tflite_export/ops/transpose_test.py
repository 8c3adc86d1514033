"""TRANSPOSE: a copy in another order."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "transpose"


@pytest.mark.parametrize("perm", [(0, 2, 1), (0, 3, 1, 2), (0, 2, 3, 1), (0, 1, 2, 3), (0, 4, 2, 3, 1)])
def test_litert_computes_the_same_integers(perm, rng):
    x = activation("x", (2, 3, 4, 5)[: len(perm) - 1], scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, like(x, [x.shape[axis - 1] for axis in perm[1:]])], KIND, perm=perm)


def permuted(layers, x):
    return layers.Dense(4)(layers.Flatten()(layers.Permute((3, 1, 2))(layers.Conv2D(3, 5)(x))))


def channel_shuffle(layers, x):
    x = layers.Conv2D(8, 3, groups=2)(x)
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 2, 4))(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, groups=2)(layers.Reshape((4, 4, 8))(x)))


@pytest.mark.parametrize("build", [permuted, channel_shuffle])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
