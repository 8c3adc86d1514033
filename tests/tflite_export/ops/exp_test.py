"""EXP."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference, ties
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "exp"


def test_litert_computes_the_same_integers(rng):
    for _ in range(20):
        x = activation("x", (256,), contract.scale(rng, 0.005, 0.1), int(rng.integers(-128, 128)))
        y = activation("y", (256,), contract.scale(rng, 0.005, 0.05), int(rng.integers(-128, 100)))
        graph = ties.without(graph_of([x, y], KIND, ("x",)))
        table = np.arange(-128, 128, dtype=np.int8)[None]
        np.testing.assert_array_equal(reference.run(graph, table), Runtime(write(graph)).run(table))


def of_a_convolution(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Activation("exponential")(layers.Conv2D(4, 3)(x)))


def of_a_branch(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, layers.Activation("exponential")(y)]))


@pytest.mark.parametrize("build", [of_a_convolution, of_a_branch])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
