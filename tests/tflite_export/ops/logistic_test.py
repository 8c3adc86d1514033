"""LOGISTIC: the sigmoid, and SiLU as its product with its input."""

import pytest

from tests.tflite_export.ops import contract

KIND = "logistic"


def test_litert_computes_the_same_integers(rng):
    contract.assert_table(rng, KIND, fixed=(1 / 256, -128))


def of_a_convolution(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(layers.Conv2D(4, 3)(x)))


def of_a_branch(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, layers.Activation("sigmoid")(y)]))


def silu(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Conv2D(4, 3, activation="silu")(x)))


@pytest.mark.parametrize("build", [of_a_convolution, of_a_branch, silu])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
