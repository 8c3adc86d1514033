"""Weights, BatchNorms and biases of a layer as integers, and what has none."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact, chain, norm, quantized
from tflite_export import ExportError, reference
from tflite_export.folding import Folded, finer, folded
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.errors import NoIntegersError
from tfqnas.graph.reading import sites_of
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, LSQPerChannel, Quantizer
from tfqnas.supernet import initialize

pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_negative_and_zero_gammas(bits):
    first = norm([1.0, -0.7, 0.0, 0.4, -1.2, 2.0])
    model = chain(
        keras.layers.Conv2D(6, 3, use_bias=False),
        first,
        keras.layers.ReLU(),
        quantized(bits=bits, use_bias=False, name="inner"),
        norm([-1.0, 0.7, 0.0, 0.4, 1.2, -2.0], name="norm2"),
    )
    if bits == 8:  # a code of -128 would become 128
        inner = model.get_layer("inner")
        inner.kernel.assign(np.clip(inner.kernel, -126 * inner.weight_quantizer.step, None))
    graph, _ = assert_exact(model, images((7, 5, 2)))
    weights = graph.tensors["inner/weights"]
    assert not weights.data[2].any() and weights.data[[0, 5]].any()
    assert (weights.scale > 0).all()
    # A dead channel is its offset, to the rounding of the bias.
    offset = graph.tensors["inner/bias"].data[2] * graph.tensors["inner/bias"].scale[2]
    assert abs(offset - (-0.5 + 2 / 5)) < 0.01


@pytest.mark.parametrize("bits", [8, 3])
def test_a_learned_step_for_each_channel(bits):
    inputs = {"input_quantizer": LSQ(bits, signed=False)}
    weights = LSQPerChannel(bits, narrow_range=bits == 8)
    model = chain(
        keras.layers.Conv2D(6, 3),
        keras.layers.ReLU(),
        QuantDepthwiseConv2D(3, weight_quantizer=weights.along(2), name="depthwise", **inputs),
        norm([-1.0, 0.7, 0.0, 0.4, 1.2, -2.0]),
        keras.layers.ReLU(),
        QuantConv2D(5, 1, weight_quantizer=weights, name="point", **inputs),
    )
    graph, _ = assert_exact(model, images((7, 5, 2)))
    layer, weights = model.get_layer("point"), graph.tensors["point/weights"]
    assert len(np.unique(weights.scale)) == 5
    in_file = weights.data * weights.scale.reshape(-1, 1, 1, 1)
    expected = layer.weight_quantizer(layer.kernel).numpy().transpose(3, 0, 1, 2)
    np.testing.assert_allclose(in_file, expected, rtol=1e-5, atol=1e-7)


def test_the_bias_of_few_bits_is_as_fine_as_int8_allows():
    model = chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(bits=2, name="inner"))
    site = next(s for s in sites_of(model) if s.name == "inner")
    weights = folded(site)
    assert weights.bits == 2 and set(np.unique(weights.codes)) <= {-126, -63, 0, 63}
    np.testing.assert_allclose(weights.scale * 63, site.layer.weight_quantizer.step.numpy(), rtol=1e-6)


def broken(change):
    model = chain(
        keras.layers.Conv2D(6, 3, activation="relu"),
        quantized(bits=8, name="inner", use_bias=False),
        norm([1.0] * 6),
        quantized(name="after"),
    )
    change(model.get_layer("inner"), model.get_layer("norm"))
    return model


def _assign(variable, value):
    variable.assign(np.broadcast_to(np.float32(value), variable.shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inner, _: _assign(inner.kernel, np.nan), r"layer inner \(QuantConv2D\): .* not finite"),
        (lambda inner, _: _assign(inner.input_quantizer.step, np.nan), "layer inner, input_quantizer: the step size"),
        (lambda _, n: _assign(n.beta, 1e9), "layer inner: the accumulator of channel . may reach .*expected less"),
        (
            lambda inner, n: (_assign(n.gamma, -1.0), _assign(inner.kernel, -9.0)),
            "layer inner: a negative BatchNorm factor turns weight -128 into 128.*narrow_range",
        ),
    ],
    ids=["nan", "step", "bias", "minus-128"],
)
def test_what_has_no_exact_integers_is_refused_with_layer_and_value(change, message):
    with pytest.raises(ExportError, match=message):
        lower(broken(change), images((7, 5, 2)))


@pytest.mark.parametrize(
    ("weights", "inputs", "message"),
    [
        (LSQ(4, signed=False), LSQ(4, signed=False), "layer inner: expected signed weights"),
        (LSQ(10), LSQ(4, signed=False), "layer inner, weight_quantizer: 10 bits, int8 holds 8"),
        (LSQ(4), LSQ(16, signed=False), "layer inner, input_quantizer: 16 bits"),
        (LSQ(4), LSQ(4, narrow_range=True), "a narrow range of inputs"),
    ],
)
def test_quantizers_that_int8_does_not_hold_are_refused(weights, inputs, message):
    inner = QuantConv2D(5, 1, weight_quantizer=weights, input_quantizer=inputs, name="inner")
    with pytest.raises(ExportError, match=message):
        lower(chain(keras.layers.Conv2D(6, 3), inner), images((7, 5, 2)))


class PowersOfTwo(Quantizer):
    """Levels that are no multiples of one step."""

    def set_from(self, x):
        pass

    def fake_quantize(self, x, batched):
        return keras.ops.sign(x) * 2 ** keras.ops.round(keras.ops.log2(keras.ops.abs(x) + 1e-3))


class Levels(PowersOfTwo):
    def to_integers(self, x):
        raise NoIntegersError("levels without a step")


@pytest.mark.parametrize("place", ["weight_quantizer", "input_quantizer"])
@pytest.mark.parametrize("kind", [PowersOfTwo, Levels])
def test_a_non_uniform_quantizer_is_refused(kind, place):
    quantizers = {"weight_quantizer": LSQ(4), "input_quantizer": LSQ(4), place: kind(4)}
    model = chain(keras.layers.Conv2D(6, 3), QuantConv2D(5, 1, **quantizers, name="inner"))
    with pytest.raises(ExportError, match=f"layer inner, {place}: {kind.__name__} is non-uniform"):
        lower(model, images((7, 5, 2)))


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
