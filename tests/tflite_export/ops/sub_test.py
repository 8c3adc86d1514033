"""SUB: differences of tensors on a grid each."""

import numpy as np
import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, constant, scale

KIND = "sub"


@pytest.mark.parametrize("fused", ["none", "relu", "relu6"])
@pytest.mark.parametrize("shape", [(6, 5, 8), (1, 1, 8), (6, 1, 1)])
def test_litert_computes_the_same_integers(shape, fused, rng):
    x = activation("x", (6, 5, 8), scale(rng), int(rng.integers(-128, 128)))
    y = activation("y", x.shape, x.scale * np.float32(rng.uniform(1, 3)), int(rng.integers(-60, 60)))
    other = (scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, activation("a", shape, *other), y], KIND, ("x", "a"), activation=fused)
    a = constant(rng, "a", shape[-1:], *other)
    assert_computes(rng, [x, a, y], KIND, ("x", "a"), activation=fused)
    assert_computes(rng, [x, a, y], KIND, ("a", "x"), activation=fused)


@pytest.mark.parametrize("ratios", [(2.0**-10, 1.0), (256 * (1 - 2.0**-20), 1.0), (0.5, 2.0**-10), (0.5, 0.5)])
def test_the_least_and_the_largest_ratios(ratios, rng):
    y = activation("y", (6, 5, 8), scale(rng), int(rng.integers(-60, 60)))
    tensors = [activation(name, y.shape, y.scale * np.float32(r), 3) for name, r in zip("xa", ratios, strict=True)]
    assert_computes(rng, [*tensors, y], KIND, ("x", "a"))


def of_branches(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Subtract()([y, layers.Conv2D(4, 1)(x)])))


@pytest.mark.parametrize("build", [of_branches])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
