"""DEQUANTIZE: float logits, a product with the scale."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference
from tflite_export.int_graph import IntTensor, pixels_of, with_interface
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "dequantize"


@pytest.mark.parametrize(("scale", "zero"), [(1 / 128, 0), (0.0371, -128), (2.9, 17)])
def test_litert_computes_the_same_integers(scale, zero):
    """The same floats, bit by bit."""
    x = activation("x", (4, 4, 16), np.float32([scale]), zero)
    y = IntTensor("y", x.shape, np.zeros(0, np.float32), 0, "float32")
    graph = graph_of([x, y], KIND, ("x",))
    integers = np.arange(-128, 128, dtype=np.int8).reshape(1, *x.shape)
    floats = Runtime(write(graph)).run(integers)
    np.testing.assert_array_equal(reference.run(graph, integers), floats)
    np.testing.assert_array_equal(floats, (integers.astype(np.float32) - zero) * np.float32(scale))


def test_models_with_it_are_exact_and_close_to_the_float_model(keras, same_weights):
    from tests.tflite_export.models import assert_exact, chain

    x = images((7, 5, 2))
    model = chain(keras.layers.Conv2D(6, 3, activation="relu"))
    graph, logits = assert_exact(model, x, calibration="min_max")
    in_floats, pixels = with_interface(graph, output_type="float32"), pixels_of(graph, x)
    np.testing.assert_array_equal(reference.run(in_floats, pixels), logits)
    np.testing.assert_array_equal(Runtime(write(in_floats)).run(pixels), logits)
    expected = np.asarray(model(x))
    assert np.abs(logits - expected).max() < 0.06 * np.ptp(expected)


def test_what_it_cannot_compute_is_refused():
    one = [activation(name, (2, 2, 1), np.float32([1])) for name in "xy"]
    graph = graph_of(one, "reshape", ("x",))
    with pytest.raises(
        ValueError, match="expected int8, uint8 or float32 in, int8 or float32 out, received int8 and float16"
    ):
        with_interface(graph, output_type="float16")
    with pytest.raises(ValueError, match="expected a graph from int8 to int8, received float32 and int8"):
        with_interface(with_interface(graph, output_type="float"), output_type="float")
