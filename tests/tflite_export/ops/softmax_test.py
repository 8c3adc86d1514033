"""SOFTMAX: LiteRT's kernel with a table of powers."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of

KIND = "softmax"


@pytest.mark.parametrize(
    ("classes", "scale"), [(2, 0.01), (2, 0.3), (10, 0.01), (10, 0.0613), (10, 0.3), (1000, 0.0613), (1000, 0.3)]
)
def test_litert_computes_the_same_integers(classes, scale, rng):
    x = activation("x", (classes,), np.float32([scale]), int(rng.integers(-128, 128)))
    y = activation("y", (classes,), np.float32([1 / 256]), -128)
    codes = contract.codes(rng, x)
    codes[:, 0] = np.linspace(-128, 127, len(codes))  # one class by more or less above the others
    codes[::2, 1:] //= 4
    contract.assert_litert_agrees(graph_of([x, y], KIND, ("x",)), codes)


def layer(layers, x):
    return layers.Softmax()(layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(x))))


def activation_layer(layers, x):
    return layers.Activation("softmax")(layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def inside(layers, x):
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def of_positions(layers, x):
    return layers.Softmax()(layers.Conv2D(5, 3)(x))


@pytest.mark.parametrize("build", [layer, activation_layer, inside])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def of_rows(layers, x):
    return layers.Softmax(axis=1, name="s")(x)


@pytest.mark.parametrize(("build", "message"), [(of_rows, r"layer s \(Softmax\).*axis 1, expected the last one")])
def test_what_it_cannot_compute_is_refused(build, message, assert_refused):
    assert_refused(message, build)


@pytest.mark.parametrize("build", [of_positions])
def test_forms_that_networks_rarely_have_are_exact(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
