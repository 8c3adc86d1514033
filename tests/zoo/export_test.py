"""Super-resolution networks as integer files: exact, and pixels in, pixels out."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact
from tflite_export import ExportError, snap_biases
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas import LSQ, initialize, quantize, zoo

SIZE = (8, 10)


def quantized(name, bits, scale=2, pixels=True):
    """A tiny network for images of any size, on LSQ of these bits."""
    keras.utils.set_random_seed(1)
    model = zoo.build(name, scale=scale, filters=8, blocks=1)
    for variable in model.variables:  # biases of zero meet the halves between two codes too often
        if variable.name in ("bias", "beta"):
            variable.assign_add(np.random.default_rng(3).normal(size=variable.shape) * 0.05)
    model = quantize(model, weights=LSQ(bits=bits), inputs=LSQ(bits=bits, signed=None))
    model = quantize(zoo.with_pixel_output(model) if pixels else model, integer_aware=True)
    initialize(model, images((*SIZE, 3)))
    return model


@pytest.mark.parametrize(
    ("name", "bits", "scale"), [("edsr", 8, 2), ("edsr", 4, 4), ("srresnet", 4, 2), ("srresnet", 8, 4)]
)
def test_super_resolution_is_exact_in_integers_and_returns_pixels(name, bits, scale):
    x = images((*SIZE, 3))
    model = zoo.with_input_size(quantized(name, bits, scale), SIZE)
    graph, _ = assert_exact(model, x)
    kinds = [op.kind for op in graph.ops]
    assert kinds.count("depth_to_space") == scale.bit_length() - 1 and "add" in kinds
    output = graph.tensors[graph.output]
    assert output.shape == (scale * SIZE[0], scale * SIZE[1], 3)
    assert output.scale[0] == 1 / 128 and output.zero_point == 0
    # Once the model has the file's biases, what is left is float32's rounding next to halves.
    snap_biases(model, graph)
    found = Runtime(write(lower(model, x))).run(np.rint(x * 128).astype(np.int8))
    assert (
        found == np.asarray(model(x)) * 128
    ).mean() > 0.98  # a bias is rounded, which moves a few of the fine steps of 8 bits


def test_without_a_pixel_output_the_range_is_that_of_the_images():
    model = zoo.with_input_size(quantized("edsr", 4, pixels=False), SIZE)
    graph, _ = assert_exact(model, images((*SIZE, 3)))
    assert graph.tensors[graph.output].scale[0] != 1 / 128


def test_a_model_for_any_size_is_not_exported():
    with pytest.raises(ExportError, match=r"expected images of one size, .*with_input_size"):
        lower(quantized("edsr", 4), images((*SIZE, 3)))
