"""QUANTIZE: the bytes of a camera to int8 of the same scale, a shift by 128."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference
from tflite_export.int_graph import IntTensor, pixels_of, with_interface
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "quantize"


@pytest.mark.parametrize("zero", [0, -28, 127])
def test_litert_computes_the_same_integers(zero):
    x = IntTensor("x", (4, 4, 16), np.float32([1 / 128]), zero + 128, "uint8")
    graph = graph_of([x, activation("y", x.shape, x.scale, zero)], KIND, ("x",))
    pixels = np.arange(256, dtype=np.uint8).reshape(1, *x.shape)
    integers = Runtime(write(graph)).run(pixels)
    np.testing.assert_array_equal(reference.run(graph, pixels), integers)
    np.testing.assert_array_equal(integers.astype(int), pixels.astype(int) - 128)


@pytest.mark.parametrize("ratio", [2.0**-8, 0.3, 1.7, 127.0])
def test_int8_moves_to_another_grid(ratio, rng):
    x = activation("x", (256,), contract.scale(rng), int(rng.integers(-9, 9)))
    y = activation("y", x.shape, x.scale / np.float32(ratio), int(rng.integers(-60, 60)))
    table = np.arange(-128, 128, dtype=np.int8)[np.newaxis]
    graph = graph_of([x, y], KIND, ("x",))
    np.testing.assert_array_equal(reference.run(graph, table), Runtime(write(graph)).run(table))


def test_models_with_it_are_exact_and_close_to_the_float_model(keras, same_weights):
    from tests.tflite_export.models import assert_exact, chain

    x = images((7, 5, 2))
    graph, _ = assert_exact(chain(keras.layers.Conv2D(6, 3, activation="relu")), x)
    of_bytes, pixels = with_interface(graph, input_type="uint8"), np.rint(x * 128 + 128).astype(np.uint8)
    expected = reference.run(graph, pixels_of(graph, x))
    np.testing.assert_array_equal(reference.run(of_bytes, pixels), expected)
    np.testing.assert_array_equal(Runtime(write(of_bytes)).run(pixels), expected)


def test_floats_are_rounded_as_litert_does(keras, same_weights):
    from tests.tflite_export.models import chain
    from tflite_export.lower import lower

    x = images((7, 5, 2)) + np.float32(0.001)
    graph = with_interface(lower(chain(keras.layers.Conv2D(6, 3)), x), "float32", "float32")
    np.testing.assert_array_equal(reference.run(graph, x), Runtime(write(graph)).run(x))


def test_what_it_cannot_compute_is_refused():
    one = [activation(name, (2, 2, 1), np.float32([1])) for name in "xy"]
    graph = graph_of(one, "reshape", ("x",))
    with pytest.raises(
        ValueError, match="expected int8, uint8 or float32 in, int8 or float32 out, received int16 and int8"
    ):
        with_interface(graph, input_type="int16")
    with pytest.raises(ValueError, match="expected a graph from int8 to int8, received int8 and uint8"):
        with_interface(with_interface(graph, input_type="uint8"), input_type="uint8")
    x = IntTensor("x", (2,), np.float32([0.5]), 3, "uint8")
    graph = graph_of([x, activation("y", (2,), np.float32([0.25]))], KIND, ("x",))
    with pytest.raises(ValueError, match="y: quantizing uint8: expected the scale of its input, 0.5, received 0.25"):
        reference.run(graph, np.zeros((1, 2), np.uint8))
