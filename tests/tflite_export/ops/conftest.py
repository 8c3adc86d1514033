"""Keras models as graphs: exact, close to the model, and what the official converter makes of them."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images


@pytest.fixture
def assert_lowers(keras, same_weights):
    """`assert_lowers(kind, build, shape, official)`: a model lowers to `kind`, its integers as they should be.

    `build(layers, x)` makes the model's output of its input. The graph of the float model is close to the model, and
    those of the model and of its 4-bit quantized form are exact in LiteRT. With `official` the official converter,
    given the scales, makes a file of each operation of this kind that differs by a step at most.
    """
    import tfqnas
    from tests.tflite_export.models import assert_exact, functional
    from tests.tflite_export.official import assert_agree
    from tfqnas.quantizers import LSQ

    def check(kind, build, shape=(6, 6, 4), official=True):
        model, x = functional(lambda x: build(keras.layers, x), shape), images(shape)
        graph, values = assert_exact(model, x, calibration="min_max")
        expected = np.asarray(model(x))
        assert values.size == expected.size
        assert np.abs(values.reshape(expected.shape) - expected).max() < 0.06 * np.ptp(expected)
        assert kind in {op.kind for op in graph.ops}
        assert not official or assert_agree(graph, x, {kind}) == {kind}
        quantized = tfqnas.quantize(model, weights=LSQ(bits=4), inputs=LSQ(bits=4, signed=None))
        tfqnas.initialize(quantized, x, missing_only=True)
        graph, _ = assert_exact(quantized, x)
        assert kind in {op.kind for op in graph.ops}
        assert not official or assert_agree(graph, x, {kind}) == {kind}

    return check


@pytest.fixture
def assert_refused(keras):
    """`assert_refused(message, build, shape)`: lowering the model is an `ExportError` whose text matches."""
    from tests.tflite_export.models import functional
    from tflite_export import ExportError
    from tflite_export.lower import lower

    def check(message, build, shape=(6, 6, 4)):
        model = functional(lambda x: build(keras.layers, x), shape)
        x = images([6 if size is None else size for size in shape])
        with pytest.raises(ExportError, match=message):
            lower(model, x)

    return check
