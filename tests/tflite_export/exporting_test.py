"""From a model to the bytes of its file, and what the file says of itself."""

import json

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tflite_export import ExportError, export, reference
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime

pytestmark = pytest.mark.usefixtures("same_weights")


def test_bytes_in_floats_out_and_what_the_file_says_of_itself(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:], 8)
    blob = export(model, x, input_type="uint8", output_type="float32", metadata={"class_names": list("0123456789")})
    runtime = Runtime(blob)
    logits = runtime.run(np.rint(x * 128 + 128).astype(np.uint8))
    graph = lower(model, x)
    np.testing.assert_array_equal(logits, reference.logits(graph, reference.run(graph, pixels_of(graph, x))))
    assert runtime.signature == ("serving_default", ["image"], ["logits"])
    assert json.loads(runtime.metadata["tfqnas"])["class_names"] == list("0123456789")


def test_arguments_of_an_export(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:], 8)
    known = {"accuracy": np.float32(0.5), "epochs": np.int64(3), "steps": np.arange(2), "of": (1, 2)}
    blob = export(model, list(x), output_type="float", metadata=known)
    assert Runtime(blob).output["dtype"] == np.float32
    stored = json.loads(Runtime(blob).metadata["tfqnas"])
    assert stored == {"accuracy": 0.5, "epochs": 3, "steps": [0, 1], "of": [1, 2], "normalization": "(x - 128) / 128"}
    stored = json.loads(Runtime(export(model, x, normalization=(100, 127))).metadata["tfqnas"])
    assert stored == {"normalization": "(x - 100) / 127"}
    with pytest.raises(
        ValueError, match="expected int8, uint8 or float32 in, int8 or float32 out, received int8 and half"
    ):
        export(model, x, output_type="half")
    with pytest.raises(ExportError, match="calibration: expected one of min_max, percentile, mse, kl, received 'max'"):
        export(model, x, method="max")
    with pytest.raises(ExportError, match="metadata: expected JSON values"):
        export(model, x, metadata={"model": model})
