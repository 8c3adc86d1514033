"""RSQRT, as normalization layers have it."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference, ties
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "rsqrt"


def test_litert_computes_the_same_integers(rng):
    for _ in range(20):
        x = activation("x", (256,), contract.scale(rng, 0.005, 0.1), -128)
        y = activation("y", (256,), contract.scale(rng, 0.005, 0.05), int(rng.integers(-128, 100)))
        graph = ties.without(graph_of([x, y], KIND, ("x",)))
        table = np.arange(-128, 128, dtype=np.int8)[None]
        np.testing.assert_array_equal(reference.run(graph, table), Runtime(write(graph)).run(table))


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
