"""Keras models as integers: the same in the numpy reference and in LiteRT."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact, chain, norm, quantized
from tflite_export import ExportError, reference
from tflite_export.int_graph import pixels_of
from tflite_export.lower import check, lower, saturated
from tflite_export.ops.registry import ratios
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.errors import UserError
from tfqnas.graph.reading import sites_of
from tfqnas.layers import QuantDense
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize

pytestmark = pytest.mark.usefixtures("same_weights")


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("kind", ["hswish", "relu-rgb"])
def test_subnets_are_exact_with_residuals_squeeze_excite_and_every_activation(kind, bits, subnets):
    model = subnets(bits, relu=kind != "hswish", channels=1 if kind == "hswish" else 3)
    graph, _ = assert_exact(model, images(model.input_shape[1:]))
    kinds = {op.kind for op in graph.ops}
    expected = {"conv_2d", "depthwise_conv_2d", "fully_connected", "add", "mul", "mean"}
    assert kinds == expected | ({"hard_swish"} if kind == "hswish" else set())
    low = {t.bits for t in graph.tensors.values() if t.data is None}
    assert low == {8, bits}


def test_a_tensor_keeps_the_step_that_its_quantizer_has_learned(subnets):
    model = subnets(3)
    graph = lower(model, images(model.input_shape[1:]))
    for op in graph.ops:
        layer = model.get_layer(op.source)
        if op.kind in ("conv_2d", "depthwise_conv_2d") and getattr(layer, "input_quantizer", None):
            x = graph.tensors[op.inputs[0]]
            assert x.scale[0] == layer.input_quantizer.step.numpy()
            assert (x.zero_point, x.bits) == (127 - 7, 3)


def test_what_an_addition_reads_keeps_its_own_grid(subnets):
    model = subnets(4)
    graph = lower(model, images(model.input_shape[1:]))
    sums = [op for op in graph.ops if op.kind == "add"]
    assert len(sums) == 3
    for op in sums:
        members = [graph.tensors[name] for name in (*op.inputs, *op.outputs)]
        assert len({(float(t.scale[0]), t.zero_point) for t in members}) > 1


def test_at_8_bits_the_logits_are_those_of_the_float_model(subnets):
    model = subnets(None)
    x = images(model.input_shape[1:])
    _, logits = assert_exact(model, x, calibration="min_max")
    expected = model(x).numpy()
    assert np.abs(logits - expected).max() < 0.08 * np.ptp(expected)
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.995


def test_a_channel_that_always_saturates_does_so_with_a_smaller_factor():
    model = chain(keras.layers.Conv2D(6, 3), quantized(name="inner", use_bias=False), norm([1.0] * 6))
    x = images((7, 5, 2))
    graph = lower(model, x)
    weights = graph.tensors["inner/weights"]
    scale = weights.scale * np.where(np.arange(6) == 2, 700 / ratios(graph, _op(graph, "inner"))[2], 1)
    steep = {weights.name: dataclasses.replace(weights, scale=scale.astype(np.float32))}
    steep = dataclasses.replace(graph, tensors={**graph.tensors, **steep})
    with pytest.raises(ExportError, match="layer inner: an accumulator is worth 700 steps"):
        check(steep)
    gentle = saturated(steep)
    check(gentle)
    pixels = pixels_of(graph, x)
    expected = reference.run(steep, pixels, keep=["inner"])[1]["inner"]
    assert set(np.unique(expected[..., 2])) <= {gentle.tensors["inner"].zero_point, -128, 127}
    np.testing.assert_array_equal(reference.run(gentle, pixels, keep=["inner"])[1]["inner"], expected)
    np.testing.assert_array_equal(Runtime(write(gentle)).run(pixels), reference.run(steep, pixels))


def _op(graph, source):
    return next(op for op in graph.ops if op.source == source)


def test_a_signed_input_is_clipped_at_both_ends():
    model = chain(keras.layers.Conv2D(6, 3), quantized(bits=3, signed=True, name="inner"))
    step = model.get_layer("inner").input_quantizer.step
    step.assign(step / 4)
    graph, _ = assert_exact(model, images((7, 5, 2)))
    producer = _op(graph, "inner")
    x = graph.tensors[producer.inputs[0]]
    assert (x.zero_point, x.bits) == (127 - 3, 3)
    pixels = pixels_of(graph, images((7, 5, 2)))
    _, kept = reference.run(graph, pixels, keep=[x.name])
    codes = kept[x.name].astype(int) - x.zero_point
    assert (codes.min(), codes.max()) == (-4, 3)


def test_one_tensor_for_several_quantizers_and_the_pooling():
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    branches = [quantized(4, bits=b, name=f"branch{b}")(x) for b in (4, 2)]
    x = keras.layers.Add()([*branches])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, QuantDense(5, weight_quantizer=LSQ(4), input_quantizer=LSQ(4, signed=True))(x))
    initialize(model, images((6, 6, 2)))
    graph, _ = assert_exact(model, images((6, 6, 2)))
    assert sorted(t.bits for t in graph.tensors.values() if t.data is None)[:3] == [2, 4, 4]


def test_sequential_models_are_exact():
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((7, 5, 2)), *layers])
    initialize(model, images((7, 5, 2)))
    assert_exact(model, images((7, 5, 2)))
    with pytest.raises(UserError, match="expected a functional or Sequential model that has been built"):
        sites_of(keras.Sequential([keras.layers.Dense(3)]))


def two_inputs(build):
    """A model of an image and of a vector of physical quantities, with their values."""
    image, vector = keras.Input((6, 6, 2), name="image"), keras.Input((5,), name="vector")
    values = [images((6, 6, 2)), np.random.default_rng(0).normal(300, 40, (48, 5)).astype(np.float32)]
    return keras.Model([image, vector], build(image, vector)), values


def both(image, vector):
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    y = keras.layers.Dense(4, name="gate")(keras.layers.Rescaling(1 / 40, -7.5)(vector))
    return {"sum": keras.layers.Dense(3, name="sum")(keras.layers.Concatenate()([x, y])), "gate": y}


@pytest.mark.parametrize("given_as", [list, dict])
def test_several_inputs_and_outputs_have_names_and_ranges_of_their_own(given_as):
    model, values = two_inputs(both)
    given = values if given_as is list else {"vector": values[1], "image": values[0]}
    normalization = {"image": (128, 128), "vector": "calibrated"}
    graph = lower(model, given, normalization=normalization)
    pixels = pixels_of(graph, values)
    runtime = Runtime(write(graph))
    assert runtime.signature[1:] == (["image", "vector"], ["gate", "sum"])
    expected = keras.tree.flatten(model(values))
    results = reference.run(graph, pixels)
    for integers, theirs, value in zip(results, runtime.run(pixels), expected, strict=True):
        np.testing.assert_array_equal(integers, theirs)
        assert len(np.unique(integers)) > 8 and integers.shape == value.shape
    for ours, value in zip(reference.logits(graph, results), expected, strict=True):
        assert np.abs(ours - value).max() < 0.05 * np.ptp(value)


def test_inputs_that_do_not_fit_the_model_are_refused():
    model, values = two_inputs(both)
    with pytest.raises(
        ExportError, match="expected calibration values for its 2 inputs image, vector, received ndarray"
    ):
        lower(model, values[0])
    with pytest.raises(ExportError, match="expected one for each of image, vector, received image"):
        lower(model, values, normalization={"image": (128, 128)})
    with pytest.raises(ExportError, match="equally many calibration values of each input, received 48 of image, 9 of"):
        lower(model, [values[0], values[1][:9]], normalization={"image": (128, 128), "vector": "calibrated"})
    with pytest.raises(ExportError, match="calibration values of vector: .*takes values that are no pixels"):
        lower(model, values)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.ConvLSTM1D(3, 3, name="c"), r"layer c \(ConvLSTM1D\): no integer form"),
        (keras.layers.Activation("selu", name="t"), r"layer t \(Activation\).*activation selu, expected one of"),
        (keras.layers.ReLU(threshold=1.0, name="r"), r"layer r \(ReLU\).*threshold 1, expected 0"),
    ],
)
def test_layers_without_an_integer_form_are_named(layer, message):
    inputs = keras.Input((9, 9, 2))
    with pytest.raises(ExportError, match=message):
        lower(keras.Model(inputs, layer(inputs)), images((9, 9, 2)))
