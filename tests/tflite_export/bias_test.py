"""Biases of channels that hardly vary: a BatchNorm of tiny variance makes the scale of the products large."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tflite_export import reference
from tflite_export.folding import Folded, finer
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.layers import QuantConv2D, QuantDense
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize


def test_an_all_but_dead_channel_keeps_its_bias():
    keras.utils.set_random_seed(1)
    x = keras.Input((7, 5, 2))
    convolution = QuantConv2D(4, 3, name="conv", weight_quantizer=LSQ(8), input_quantizer=LSQ(8))
    norm = keras.layers.BatchNormalization(name="norm")
    y = keras.layers.ReLU(6.0, name="relu")(norm(convolution(x)))
    y = keras.layers.GlobalAveragePooling2D()(y)
    model = keras.Model(x, QuantDense(3, weight_quantizer=LSQ(8), input_quantizer=LSQ(8, signed=False))(y))
    batch = images((7, 5, 2))
    initialize(model, batch)
    kernel = convolution.kernel.numpy()
    kernel[..., 1] = 0  # dead, in a layer whose weights have a step
    kernel[0, 0, 0, 1] = 1e-3
    convolution.kernel.assign(kernel)
    norm.set_weights([np.ones(4), np.array([0.0, 1.3, 0.2, 0.1]), np.zeros(4), np.array([1.0, 0.0, 1.0, 1.0])])
    graph = lower(model, batch)
    integers, kept = reference.run(graph, pixels_of(graph, batch), keep=["conv"])
    np.testing.assert_array_equal(integers, Runtime(write(graph)).run(pixels_of(graph, batch)))
    channel = reference.dequantized(graph.tensors["conv"], kept["conv"])[..., 1]
    step = float(graph.tensors["conv"].scale[0])
    assert np.abs(channel - 1.3).max() <= (0.5 + 1 / 16) * step


@pytest.mark.parametrize(("axis", "shape"), [(0, (3, 1, 1, 2)), (3, (1, 1, 2, 3))])
def test_finer_scales_compute_the_same(axis, shape):
    codes = np.moveaxis(np.array([[1, -2], [127, 0], [40, 41]], np.int8).reshape(3, 1, 1, 2), 0, axis).reshape(shape)
    scale = np.array([4.0, 4.0, 1e-3], np.float32)
    made = finer(Folded(codes, scale, np.zeros(3), 8), np.float32([0.5]), 1.0, axis)
    by_channel = [-1 if i == axis else 1 for i in range(4)]
    np.testing.assert_allclose(
        made.codes * made.scale.reshape(by_channel), codes * scale.reshape(by_channel), rtol=1e-6
    )
    # An eighth of the step in the first channel; no room in the second, no need in the third.
    assert (scale / made.scale).round(3).tolist() == [16, 1, 1]


def test_one_scale_of_all_channels_stays_one():
    weights = Folded(np.array([[1, -2], [100, 0]], np.int8), np.full(2, 4.0, np.float32), np.zeros(2), 8)
    assert finer(weights, np.float32([0.5]), 1.0, 0).scale.tolist() == [4.0, 4.0]
