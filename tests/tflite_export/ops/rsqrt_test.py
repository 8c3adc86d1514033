"""RSQRT, as normalization layers have it."""

import pytest

from tests.tflite_export.ops import contract

KIND = "rsqrt"


def test_litert_computes_the_same_integers(rng):
    contract.assert_table(rng, KIND, lowest_zero=True)


def layer_norm(layers, x):
    x = layers.LayerNormalization(epsilon=0.05)(layers.Conv2D(8, 3)(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))


def group_norm(layers, x):
    return layers.GlobalAveragePooling2D()(
        layers.Conv2D(4, 1)(layers.GroupNormalization(2, epsilon=0.05)(layers.Conv2D(8, 3)(x)))
    )


def unit_norm(layers, x):
    return layers.UnitNormalization()(layers.Dense(9)(layers.Flatten()(layers.MaxPooling2D(2)(x))))


@pytest.mark.parametrize("build", [layer_norm, group_norm, unit_norm])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
