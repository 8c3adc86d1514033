"""Models without an exact integer form, refused with layer and value."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import chain, norm, quantized
from tflite_export import ExportError, export
from tflite_export.lower import lower
from tfqnas.errors import NoIntegersError
from tfqnas.layers import QuantConv2D
from tfqnas.quantizers import LSQ, Quantizer

pytestmark = pytest.mark.usefixtures("same_weights")


def broken(change):
    model = chain(
        keras.layers.Conv2D(6, 3, activation="relu"), quantized(bits=8, name="inner", use_bias=False), norm([1.0] * 6)
    )
    change(model.get_layer("inner"), model.get_layer("norm"))
    return model


def _assign(variable, value):
    variable.assign(np.broadcast_to(np.float32(value), variable.shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inner, _: _assign(inner.kernel, np.nan), "layer inner: .* not finite"),
        (lambda inner, _: _assign(inner.input_quantizer.step, np.nan), "layer inner, input_quantizer: the step size"),
        (lambda _, n: _assign(n.beta, 1e9), "layer inner: the accumulator of channel . may reach .*expected less"),
        (lambda _, n: _assign(n.gamma, 1e-12), "layer inner: the accumulator of channel"),
        (
            lambda inner, n: (_assign(n.gamma, -1.0), _assign(inner.kernel, -9.0)),
            "layer inner: a negative BatchNorm factor turns weight -128 into 128.*narrow_range",
        ),
    ],
    ids=["nan", "step", "bias", "tiny-gamma", "minus-128"],
)
def test_what_has_no_exact_integers_is_refused_with_layer_and_value(change, message):
    with pytest.raises(ExportError, match=message):
        lower(broken(change), images((7, 5, 2)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Conv2DTranspose(3, 3, name="up"), r"layer up \(Conv2DTranspose\): no integer form"),
        (keras.layers.Activation("tanh", name="t"), r"layer t \(Activation\).*activation tanh, expected one of"),
        (keras.layers.ReLU(max_value=4, name="r"), r"layer r \(ReLU\).*max_value"),
    ],
)
def test_layers_without_an_integer_form_are_named(layer, message):
    model = chain(layer, shape=(9, 9, 2))
    with pytest.raises(ExportError, match=message):
        lower(model, images((9, 9, 2)))


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


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        (128, r"expected two numbers, \(mean, divisor\) of the pixels, received 128"),
        (None, "expected two numbers, .*received None"),
        ("imagenet", "expected two numbers, .*received 'imagenet'"),
        ((1, 2, 3), "expected two numbers"),
        (("a", "b"), "expected two numbers"),
        (((1, 2, 3), (4, 5, 6)), r"one value for all channels.*such as \(x - 2\) / 5"),
        ((300, 128), r"no pixel value.*\(x - 255\) / 128 has"),
        ((128, 0), "expected a positive divisor"),
    ],
)
def test_normalisations_without_exact_integers_are_refused(normalization, message):
    model = chain(keras.layers.Conv2D(6, 3))
    with pytest.raises(ExportError, match=message):
        lower(model, images((7, 5, 2)), normalization=normalization)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: None, r"expected float32 \('n', 12, 12, 1\), received None"),
        (lambda x: (x * 128 + 128).astype(np.uint8), r"expected \(pixel - 128\) / 128, .* whole numbers from 0"),
        (lambda x: x * 128 + 128, r"expected \(pixel - 128\) / 128, from -1 to 0.99.* received values from .* to 25"),
        (lambda x: "a text", "calibration images: expected an array"),
        (lambda x: [x[0], x[0, :3]], "calibration images: expected an array"),
    ],
    ids=["none", "bytes", "pixels", "text", "ragged"],
)
def test_other_things_than_normalised_images_are_refused(change, message, subnets):
    model = subnets(4)
    with pytest.raises(ExportError, match=message):
        export(model, change(images(model.input_shape[1:])))
