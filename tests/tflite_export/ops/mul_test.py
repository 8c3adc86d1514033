"""MUL: gates, and products with one, which move a tensor to another grid."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export.int_graph import IntGraph, IntOp, IntTensor

KIND = "mul"


def by_a_constant(x, highest, y):
    c = IntTensor("c", (1,), np.float32([1 / 64]), 0, "int8", np.array([64], np.int8))
    return graph_of([x, c, y(x.scale * np.float32(90.7 / highest))], KIND, ("x", "c"), activation="relu")


def by_itself(x, highest, y):
    y = y(x.scale * x.scale * np.float32(8100 / highest))
    return graph_of([x, y], KIND, ("x", "x"), activation="relu")


def by_a_value_for_each_channel(x, highest, y):
    pooled = activation("g", (1, 1, 8), x.scale * np.float32(0.37), 3)
    y = y(x.scale * pooled.scale * np.float32(810 / highest))
    ops = (IntOp("mean", ("x",), ("g",)), IntOp(KIND, ("x", "g"), ("y",), {"activation": "relu"}))
    return IntGraph({t.name: t for t in (x, pooled, y)}, ops, ("x",), ("y",))


@pytest.mark.parametrize("build", [by_a_constant, by_itself, by_a_value_for_each_channel])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_litert_computes_the_same_integers(bits, build, rng):
    highest = 2**bits - 1
    x = activation("x", (6, 6, 8), contract.scale(rng), int(rng.integers(-128, 128)))
    graph = build(x, highest, lambda scale: activation("y", x.shape, scale, 127 - highest, bits))
    contract.assert_litert_agrees(graph, contract.codes(rng, x))


def test_factors_are_rounded_in_xnnpacks_order(rng):
    contract.assert_factors_are_rounded_in_xnnpacks_order(KIND, rng)


def gate_of_pixels(layers, x):
    gate = layers.Dense(4, activation="hard_sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = layers.Dense(4, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(layers.Multiply()([y, gate]))


def product_of_branches(layers, x):
    y, z = (layers.Conv2D(4, 3, padding="same", activation=activation)(x) for activation in (None, "relu"))
    return layers.GlobalAveragePooling2D()(layers.Multiply()([y, layers.GlobalAveragePooling2D(keepdims=True)(z)]))


def three_factors(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Multiply(name="m")([x, y, y]))


def constants(layers, x):
    y = layers.MaxPooling2D(2)(x) * 0.5
    return layers.GlobalAveragePooling2D()(y / np.linspace(1, 2, 36).reshape(1, 3, 3, 4).astype(np.float32))


@pytest.mark.parametrize("build", [gate_of_pixels, product_of_branches])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def flat_gate(layers, x):
    return layers.Multiply(name="m")([x, layers.Dense(4)(layers.GlobalAveragePooling2D()(x))])


def test_what_it_cannot_compute_is_refused(assert_refused):
    message = r"layer m \(Multiply\).*\(6, 6, 4\) and \(4,\), expected equally many axes"
    assert_refused(message, lambda layers, x: layers.GlobalAveragePooling2D()(flat_gate(layers, x)))


@pytest.mark.parametrize("build", [three_factors, constants])
def test_forms_that_networks_rarely_have_are_exact(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
