"""SQUARED_DIFFERENCE: squares of differences of tensors on a grid each."""

import numpy as np
import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, scale

KIND = "squared_difference"


@pytest.mark.parametrize("shape", [(6, 5, 8), (1, 1, 8), (6, 1, 1)])
def test_litert_computes_the_same_integers(shape, rng):
    for _ in range(4):
        x = activation("x", (6, 5, 8), scale(rng), int(rng.integers(-128, 128)))
        a = activation("a", shape, scale(rng), int(rng.integers(-128, 128)))
        step = max(x.scale, a.scale) ** 2 * np.float32(rng.uniform(60, 300))
        assert_computes(rng, [x, a, activation("y", x.shape, step, int(rng.integers(-128, 0)))], KIND, ("x", "a"))
