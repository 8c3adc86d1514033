"""Weights of few bits in few bits, and how far LiteRT's kernels are from the reference."""

import keras
import numpy as np
import pytest

from tests.graph import models as graph_models
from tests.tflite_export.conftest import images
from tests.tflite_export.models import chain, norm, quantized
from tflite_export import ExportError
from tflite_export.int_graph import not_packed, pixels_of
from tflite_export.lower import lower
from tflite_export.verify import agreements, verify
from tflite_export.writer import write
from tfqnas.supernet import initialize


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


def bytes_of_weights(blob):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    found = {}
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.endswith(b"/weights"):
            kind = next(k for k, v in vars(schema.TensorType).items() if v == tensor.type)
            found[tensor.name.decode().removesuffix("/weights")] = kind, bytes(model.buffers[tensor.buffer].data)
    return found


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_weights_of_few_bits_are_packed_and_unpack_to_the_same_codes(bits):
    x = images(graph_models.SHAPE)
    model = graph_models.ready(graph_models.quantized(graph_models.residual_model(), bits=bits), x)
    graph = lower(model, x, storage="packed")
    stored = bytes_of_weights(write(graph))
    assert not_packed(graph).keys() == {"stem", "classifier"}  # of 8 bits
    for name, (kind, data) in stored.items():
        codes = graph.tensors[f"{name}/weights"].data.ravel()
        width = {"INT8": 8, "INT4": 4, "INT2": 2}[kind]
        assert width == (8 if name in ("stem", "classifier") else 2 if name == "hidden" and bits == 2 else 4), name
        assert len(data) == -(-codes.size * width // 8)
        numbers = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").reshape(-1, width)
        values = numbers @ (1 << np.arange(width)) - (numbers[:, -1].astype(int) << width)
        np.testing.assert_array_equal(values[: codes.size], codes)
    xnnpack = agreements(graph, write(graph), pixels_of(graph, x))[0]
    assert xnnpack.alike > 0.5 and xnnpack.largest_difference < 64  # rounds otherwise, but computes the same
    with pytest.raises(ExportError, match="storage: expected one of int8, packed, received 'int1'"):
        lower(model, x, storage="int1")


def test_what_does_not_fit_in_4_bits_is_not_packed_and_named():
    layer = quantized(filters=4, use_bias=False, name="inner")
    turned = norm(np.array([1.0, -1.0, 1.0, 1.0]), name="turned")
    model = chain(keras.layers.Conv2D(6, 3, activation="relu"), layer, turned)
    initialize(model, images((7, 5, 2)))
    kernel = layer.kernel.numpy()
    kernel[..., 1] = -100.0  # the lowest code, which the negative factor turns into 8
    layer.kernel.assign(kernel)
    graph = lower(model, images((7, 5, 2)), storage="packed")
    assert "turns weight -8 into 8" in not_packed(graph)["inner"]
    assert bytes_of_weights(write(graph))["inner"][0] == "INT8"


def test_verification_of_packed_files_does_not_expect_what_their_kernels_do_not_compute(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:])
    graph = lower(model, x, storage="packed")
    result = verify(model, graph, write(graph), x, np.asarray(model(x)).argmax(1))
    assert not result.exact and result.problem(100) is None
    others = agreements(lower(model, x), write(lower(model, x)), pixels_of(graph, x))
    assert others[0].identical == 1 and others[0].largest_difference == 0
    assert [other.kernels for other in others] == ["xnnpack", "builtin", "reference"]
    assert others[2].identical < 1  # they round twice
