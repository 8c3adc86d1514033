"""Whatever quantize makes, export takes: models made at random, at all bit widths, integer-aware or not."""

import numpy as np
import pytest

import tfqnas
from tests.graph import generated
from tests.tflite_export.conftest import images
from tflite_export import reference
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.quantizers import LSQ

FORMS = [(None, False), (8, False), (8, True), (4, False), (4, True), (3, True), (2, False), (2, True)]


def check(seed, bits, aware):
    """The file has the integers of the reference, and those are near the results of the quantized model."""
    model, x = generated.model(seed), images(generated.SHAPE, n=24)
    if bits is not None:
        model = tfqnas.quantize(model, LSQ(bits), LSQ(bits, signed=None), integer_aware=aware)
        tfqnas.initialize(model, x)
    graph = lower(model, x)
    pixels = pixels_of(graph, x)
    integers = reference.run(graph, pixels)
    np.testing.assert_array_equal(Runtime(write(graph)).run(pixels), integers)
    expected = np.asarray(model(x))
    error = np.abs(reference.logits(graph, integers) - expected).mean()
    if aware or bits is None:
        assert error < 0.05 * np.ptp(expected) + graph.tensors[graph.output].scale[0]


@pytest.mark.parametrize(("bits", "aware"), FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_quantize_makes_is_exported_exactly(seed, bits, aware):
    check(seed, bits, aware)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_so_are_many_more(seed):
    bits, aware = FORMS[seed % len(FORMS)]
    check(seed, bits, aware)
