"""HARD_SWISH: LiteRT's kernel in 16-bit fixed point."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "hard_swish"


def test_litert_computes_the_same_integers(rng):
    """On all 256 inputs, for scales and zero points of many tensors."""
    for _ in range(60):
        x = activation("x", (256,), contract.scale(rng, 0.005, 0.2), int(rng.integers(-128, 128)))
        y = activation("y", (256,), contract.scale(rng, 0.02, 0.5), int(rng.integers(-128, 128)))
        graph = graph_of([x, y], KIND, ("x",))
        table = np.arange(-128, 128, dtype=np.int8)[None]
        np.testing.assert_array_equal(reference.run(graph, table), Runtime(write(graph)).run(table))


def of_a_convolution(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Activation("hard_silu")(layers.Conv2D(4, 3)(x)))


def of_a_branch(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Add()([y, layers.Activation("hard_silu")(y)]))


def inside(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="hard_silu", name="inner")(x))


@pytest.mark.parametrize("build", [of_a_convolution, of_a_branch, inside])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)
