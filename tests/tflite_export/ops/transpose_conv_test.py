"""TRANSPOSE_CONV: transposed convolutions of any number of images."""

import numpy as np
import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, graph_of, scale
from tflite_export.int_graph import IntTensor
from tflite_export.ops.registry import OPERATIONS

KIND = "transpose_conv"


def tensors(rng, size, strides, padding, shape=(4, 3, 5), filters=6):
    x = activation("x", shape, scale(rng), int(rng.integers(-128, 128)))
    kernel, steps = (filters, *size, shape[-1]), scale(rng, 0.001, 0.02, filters)
    w = IntTensor("w", kernel, steps, data=rng.integers(-127, 128, kernel).astype(np.int8), axis=0)
    bias = rng.integers(-2000, 2000, filters).astype(np.int32)
    b = IntTensor("b", (filters,), x.scale * steps, dtype="int32", data=bias, axis=0)
    sizes = zip(shape, strides, size, strict=False)
    out = [n * s if padding == "same" else (n - 1) * s + max(k, s) for n, s, k in sizes]
    return [
        x,
        w,
        b,
        activation("y", (*out, filters), x.scale * np.float32(rng.uniform(2, 4)), int(rng.integers(-9, 9))),
    ]


@pytest.mark.parametrize("fused", ["none", "relu"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "strides"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((4, 4), (2, 2)), ((3, 3), (1, 1)), ((5, 3), (3, 2))]
)
def test_litert_computes_the_same_integers(size, strides, padding, fused, rng):
    made = tensors(rng, size, strides, padding)
    assert_computes(rng, made, KIND, ("x", "w", "b"), strides=strides, padding=padding, activation=fused)


def test_kernels_smaller_than_their_steps(rng):
    made = tensors(rng, (1, 2), (2, 3), "valid")
    assert_computes(rng, made, KIND, ("x", "w", "b"), strides=(2, 3), padding="valid")
    graph = graph_of(tensors(rng, (1, 2), (2, 3), "same"), KIND, ("x", "w", "b"), strides=(2, 3), padding="same")
    why = OPERATIONS[KIND].problem(graph, graph.ops[0])
    assert why.endswith("expected a kernel no smaller than (2, 3), received (1, 2)")


def decoder(layers, x):
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(layers.Conv2DTranspose(6, 3, strides=2, padding="same")(x))
    return layers.Conv2DTranspose(3, 2, strides=2, activation="relu")(x)


def of_series(layers, x):
    return layers.Conv1DTranspose(3, 4, strides=2)(layers.Reshape((36, 4))(x))


@pytest.mark.parametrize("build", [decoder, of_series])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
