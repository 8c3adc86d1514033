"""TANH, with scale 1/128 and zero point 0."""

import pytest

from tests.tflite_export.ops import contract

KIND = "tanh"


def test_litert_computes_the_same_integers(rng):
    contract.assert_table(rng, KIND, fixed=(1 / 128, 0))


def of_a_convolution(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Activation("tanh")(layers.Conv2D(4, 3)(x)))


def of_a_branch(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, layers.Activation("tanh")(y)]))


@pytest.mark.parametrize("build", [of_a_convolution, of_a_branch])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
