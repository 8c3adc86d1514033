"""LOG; numbers without a logarithm give the lowest integer."""

import pytest

from tests.tflite_export.ops import contract

KIND = "log"


def test_litert_computes_the_same_integers(rng):
    contract.assert_table(rng, KIND, lowest_zero=True)


def of_positive_numbers(layers, x):
    import keras

    return layers.GlobalAveragePooling2D()(keras.ops.log(layers.ReLU()(layers.Conv2D(4, 3)(x)) + 0.5))


@pytest.mark.parametrize("build", [of_positive_numbers])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
