"""Keras models as integers: the same in the numpy reference and in LiteRT, or refused with layer and value."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from tests.export.conftest import images
from tflite_export import ExportError, export, reference, ties
from tflite_export.explain import costliest, explain
from tflite_export.folding import folded
from tflite_export.int_graph import pixels_of, ratios, with_interface
from tflite_export.lower import check, lower, saturated
from tflite_export.runtime import Runtime
from tflite_export.verify import verify
from tflite_export.writer import write
from tfqnas import layers
from tfqnas.errors import NoIntegersError, UserError
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, LSQPerChannel, Quantizer
from tfqnas.sites import sites_of
from tfqnas.supernet import initialize


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


def assert_exact(model, x, **settings):
    """Lowers, runs both, and returns the graph and the reference's logits."""
    graph = lower(model, x, **settings)
    integers = reference.run(graph, pixels_of(graph, x))
    np.testing.assert_array_equal(integers, Runtime(write(graph)).run(pixels_of(graph, x)))
    assert len(np.unique(integers)) > 8
    return graph, reference.logits(graph, integers)


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


def test_what_an_addition_connects_has_one_grid(subnets):
    model = subnets(4)
    graph = lower(model, images(model.input_shape[1:]))
    sums = [op for op in graph.ops if op.kind == "add"]
    assert len(sums) == 3
    for op in sums:
        members = [graph.tensors[name] for name in (*op.inputs, *op.outputs)]
        assert len({(float(t.scale[0]), t.zero_point) for t in members}) == 1
        assert ratios(graph, op) == 1


def test_at_8_bits_the_logits_are_those_of_the_float_model(subnets):
    model = subnets(None)
    x = images(model.input_shape[1:])
    _, logits = assert_exact(model, x, calibration="min_max")
    expected = model(x).numpy()
    assert np.abs(logits - expected).max() < 0.08 * np.ptp(expected)
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.995


def chain(*layers, shape=(7, 5, 2), classes=4):
    """A small model of these layers with a classifier behind, initialised on `images(shape)`."""
    inputs = keras.Input(shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, name="classifier")(x))
    initialize(model, images(shape))
    return model


def quantized(filters=6, size=3, bits=4, signed=False, **settings):
    quantizers = {"weight_quantizer": LSQ(bits), "input_quantizer": LSQ(bits, signed=signed)}
    return QuantConv2D(filters, size, padding="same", **quantizers, **settings)


def norm(gamma, mean=0.1, variance=0.3, name="norm"):
    layer = keras.layers.BatchNormalization(name=name)
    layer.build((None, None, None, len(gamma)))
    beta = np.linspace(-0.5, 0.5, len(gamma))
    layer.set_weights([np.array(gamma), beta, np.full(len(gamma), mean), np.full(len(gamma), variance)])
    return layer


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_negative_and_zero_gammas(bits):
    first = norm([1.0, -0.7, 0.0, 0.4, -1.2, 2.0])
    model = chain(keras.layers.Conv2D(6, 3, use_bias=False), first, keras.layers.ReLU(),
                  quantized(bits=bits, use_bias=False, name="inner"),
                  norm([-1.0, 0.7, 0.0, 0.4, 1.2, -2.0], name="norm2"))  # fmt: skip
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
    model = chain(keras.layers.Conv2D(6, 3), keras.layers.ReLU(),
                  QuantDepthwiseConv2D(3, weight_quantizer=weights.along(2), name="depthwise", **inputs),
                  norm([-1.0, 0.7, 0.0, 0.4, 1.2, -2.0]), keras.layers.ReLU(),
                  QuantConv2D(5, 1, weight_quantizer=weights, name="point", **inputs))  # fmt: skip
    graph, _ = assert_exact(model, images((7, 5, 2)))
    layer, weights = model.get_layer("point"), graph.tensors["point/weights"]
    assert len(np.unique(weights.scale)) == 5
    in_file = weights.data * weights.scale.reshape(-1, 1, 1, 1)
    expected = layer.weight_quantizer(layer.kernel).numpy().transpose(3, 0, 1, 2)
    np.testing.assert_allclose(in_file, expected, rtol=1e-5, atol=1e-7)


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 5, 2), (8, 6, 1)])
def test_odd_and_even_sizes_with_strides(size, stride):
    depthwise = QuantDepthwiseConv2D(5, strides=stride, padding="same", weight_quantizer=LSQ(4),
                                     input_quantizer=LSQ(4, signed=False))  # fmt: skip
    model = chain(keras.layers.Conv2D(6, 3, strides=stride, padding="same", activation="relu"), depthwise, shape=size)
    assert_exact(model, images(size))


def test_the_bias_of_few_bits_is_as_fine_as_int8_allows():
    model = chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(bits=2, name="inner"))
    site = next(s for s in sites_of(model) if s.name == "inner")
    weights = folded(site)
    assert weights.bits == 2 and set(np.unique(weights.codes)) <= {-126, -63, 0, 63}
    np.testing.assert_allclose(weights.scale * 63, site.layer.weight_quantizer.step.numpy(), rtol=1e-6)


def test_no_product_can_tie(subnets):
    for bits in (4, 2):
        model = subnets(bits)
        graph = lower(model, images(model.input_shape[1:]))
        products = [op for op in graph.ops if op.kind == "mul"]
        assert len(products) > 5 and not any(ties.has_ties(graph, op).any() for op in products)


def test_ties_are_found_and_moved_away(subnets):
    model = subnets(4)
    graph = lower(model, images(model.input_shape[1:]))
    op = next(op for op in graph.ops if op.kind == "mul" and op.inputs[1].endswith("/one"))
    one, x, y = (graph.tensors[name] for name in (op.inputs[1], op.inputs[0], op.outputs[0]))
    half = dataclasses.replace(x, scale=y.scale * np.float32(0.5))  # every odd integer lands on a half
    tied = dataclasses.replace(graph, tensors={**graph.tensors, x.name: half, one.name: one}, ops=(op,))
    assert ties.has_ties(tied, op).all()
    moved = ties.without(tied)
    assert not ties.has_ties(moved, op).any()
    assert abs(moved.tensors[one.name].scale[0] / one.scale[0] - 1) < 1e-5


def test_bytes_in_floats_out_and_what_the_file_says_of_itself(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:], 8)
    blob = export(model, x, input_type="uint8", output_type="float32", metadata={"class_names": list("0123456789")})
    runtime = Runtime(blob)
    logits = runtime.run(np.rint(x * 128 + 128).astype(np.uint8))
    graph = lower(model, x, "percentile")
    np.testing.assert_array_equal(logits, reference.logits(graph, reference.run(graph, pixels_of(graph, x))))
    assert runtime.signature == ("serving_default", ["image"], ["logits"])
    assert json.loads(runtime.metadata["tfqnas"])["class_names"] == list("0123456789")


def test_another_mean_folds_into_the_input_where_it_is_a_pixel():
    model = chain(keras.layers.Conv2D(6, 3, padding="same", activation="relu"))
    pixels = np.rint(images((7, 5, 2)) * 128 + 128)
    x = ((pixels - 100) / 60).astype(np.float32)
    graph, _ = assert_exact(model, x, normalization=(100, 60))
    np.testing.assert_array_equal(pixels_of(graph, x).astype(int) + 128, pixels)
    with pytest.raises(ExportError, match=r"\(x - 127.5\) / 127.5: its zero is no pixel.*\(x - 128\) / 127.5 has"):
        lower(model, x, normalization=(127.5, 127.5))


def test_verify_sees_a_difference_and_a_loss(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:])
    labels = model(x).numpy().argmax(axis=-1)
    graph = lower(model, x)
    good = verify(model, graph, write(graph), x, labels)
    assert good.identical == 1 and good.largest_difference == 0 and good.top1["keras"] == 1
    calls = []
    some = verify(model, graph, write(graph), x, labels, limit=8, batch_size=8, update=calls.append)
    assert (some.images, some.compared, set(some.top1)) == (len(x), 8, {"litert"})
    assert set(some.record()["compared"]) == {"keras", "reference", "litert", "images"}
    assert some.record()["images"] == len(x)
    assert calls == list(range(8, 49, 8)) and "compared" not in good.record()
    assert good.problem(100) is None and "identical in 100.00%" in str(good)

    weights = graph.tensors["classifier/weights"]
    changed = dataclasses.replace(weights, data=np.roll(weights.data, 1, axis=0))
    other = dataclasses.replace(graph, tensors={**graph.tensors, weights.name: changed})
    assert "differ in" in verify(model, graph, write(other), x, labels).problem()
    lost = verify(model, other, write(other), x, labels)
    assert lost.identical == 1 and "top-1 falls by" in lost.problem(0.5) and lost.problem(100) is None
    floats = with_interface(graph, output_type="float32")
    assert verify(model, floats, write(floats), x).identical == 1


def broken(change):
    model = chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(bits=8, name="inner", use_bias=False),
                  norm([1.0] * 6))  # fmt: skip
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
        (keras.layers.Conv2D(4, 3, dilation_rate=2, name="d"), r"d \(Conv2D\).*dilation_rate \(2, 2\), expected 1"),
    ],
)
def test_layers_without_an_integer_form_are_named(layer, message):
    model = chain(layer, shape=(9, 9, 2))
    with pytest.raises(ExportError, match=message):
        lower(model, images((9, 9, 2)))


def functional(build, shape=(6, 6, 4)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


def pooled(x, **settings):
    return keras.layers.GlobalAveragePooling2D(**settings)(x)


def flat_gate(x):
    return pooled(keras.layers.Multiply(name="m")([x, keras.layers.Dense(4)(pooled(x))]))


def other_axis(x):
    return pooled(keras.layers.BatchNormalization(axis=1, name="norm")(keras.layers.Conv2D(6, 1)(x)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (other_axis, "layer norm .*axis 1, expected the last one"),
        (flat_gate, r"layer m \(Multiply\).*\(6, 6, 4\) and \(4,\)"),
        (lambda x: pooled(x, data_format="channels_first", name="p"), "layer p .*channels_first"),
        (lambda x: pooled(keras.layers.Add(name="a")([x, x, x])), "layer a .*reads 3 tensors, expected 2"),
    ],
    ids=["axis", "product", "channels-first", "three"],
)
def test_what_would_be_lowered_wrongly_is_refused(build, message):
    with pytest.raises(ExportError, match=message):
        lower(functional(build), images((6, 6, 4)))


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


def test_sequential_models_are_exact():
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((7, 5, 2)), *layers])
    initialize(model, images((7, 5, 2)))
    assert_exact(model, images((7, 5, 2)))
    with pytest.raises(UserError, match="expected a functional or Sequential model that has been built"):
        sites_of(keras.Sequential([keras.layers.Dense(3)]))


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
    with pytest.raises(ValueError, match="expected int8 or uint8 in, int8 or float32 out, received int8 and half"):
        export(model, x, output_type="half")
    with pytest.raises(ExportError, match="calibration: expected one of min_max, percentile, mse, kl, received 'max'"):
        export(model, x, method="max")
    with pytest.raises(ExportError, match="metadata: expected what JSON holds"):
        export(model, x, metadata={"model": model})


def test_images_of_any_size_are_refused():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled(keras.layers.Conv2D(4, 3)(inputs))), name="any")
    with pytest.raises(ExportError, match=r"any: expected images of one size, its input is \(None, None, 3\)"):
        lower(model, images((8, 8, 3)))


def test_images_that_calibrate_nothing_are_refused(subnets):
    x = images(subnets(4).input_shape[1:])
    with pytest.raises(ExportError, match="received 0 of"):
        lower(subnets(4), x[:0])
    with pytest.raises(ExportError, match="expected finite values"):
        lower(subnets(4), np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x))


def test_the_images_compared_are_not_the_first(subnets, monkeypatch):
    """A folder's split is sorted by class."""
    model = subnets(4)
    x = images(model.input_shape[1:])
    graph, seen, run = lower(model, x), [], reference.run
    monkeypatch.setattr(reference, "run", lambda graph, pixels: seen.append(pixels) or run(graph, pixels))
    for _ in range(2):
        assert verify(model, graph, write(graph), x, np.arange(len(x)), limit=8).compared == 8
    pixels = pixels_of(graph, x)
    places = [int(np.flatnonzero((pixels == one).all((1, 2, 3)))[0]) for one in np.concatenate(seen)]
    assert places[:8] == places[8:] and max(places) > 24 and len({*places}) == 8


def test_explaining_ends_with_the_layer_that_costs_most():
    model, x = chain(keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner")), images((7, 5, 2))
    labels = np.asarray(model(x)).argmax(1)
    model.get_layer("inner").input_quantizer.step.assign(100.0)  # all of it is zero
    graph, parts = lower(model, x), []
    labels = np.asarray(model(x)).argmax(1)
    records, accuracy = explain(model, graph, x, labels, parts.append)
    assert accuracy == 1 and parts == [0.25, 0.5, 0.75, 1.0] and len(records) == 4
    assert costliest(records, accuracy).startswith("no layer alone costs accuracy; most noise: ")
    records[2]["alone"], records[1]["alone"] = 0.5, 0.75
    line = costliest(records, accuracy)
    assert line == f"costs most: {records[2]['layer']}, 50.00 points of the Keras model's 100.00% on these images"


def test_images_of_another_size_are_refused(subnets):
    with pytest.raises(ExportError, match=r"expected size \(12, 12, 1\).*received 48 of \(8, 8, 1\)"):
        lower(subnets(4), images((8, 8, 1)))


def test_two_inputs_are_refused():
    inputs = [keras.Input((4, 4, 2)), keras.Input((4, 4, 2))]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(ExportError, match="expected one input and one output, has 2 and 1"):
        lower(model, images((4, 4, 2)))


@pytest.mark.parametrize("blob", [b"", b"not a model", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 90])
def test_a_foreign_file_is_refused_and_kills_nothing(blob):
    with pytest.raises(UserError, match="not a .tflite model"):
        Runtime(blob)


def conv(x, filters=6, size=3, activation=None, **settings):
    return keras.layers.Conv2D(filters, size, padding="same", activation=activation, **settings)(x)


def relu_of_a_branch(x):
    c = conv(x, 4)
    return pooled(keras.layers.Add()([c, keras.layers.ReLU()(keras.layers.Dropout(0.1)(c))]))


def h_swish_of_a_branch(x):
    c = conv(x, 4)
    return pooled(keras.layers.Add()([c, keras.layers.Activation("hard_silu")(c)]))


def relu_of_a_sum(x):
    c = conv(x, 4)
    return pooled(keras.layers.ReLU()(keras.layers.Add()([c, conv(c, 4)])))


def gate_in_a_sum(x):
    return pooled(keras.layers.Add()([conv(x, 4, 1, "hard_sigmoid"), conv(x, 4)]))


def image_in_a_sum(x):
    return pooled(keras.layers.Add()([x, conv(x, 4)]))


def norms_on_their_own(x):
    """On pixels, behind a pool, behind an activation."""
    for size in (1, 2):
        norm = keras.layers.BatchNormalization()
        x = conv(norm(keras.layers.AveragePooling2D(size)(x) if size > 1 else x), 5, activation="relu")
        channels = norm.gamma.shape[0]
        norm.set_weights([np.linspace(-1, 2, channels), *np.random.default_rng(0).random((3, channels))])
    return pooled(keras.layers.BatchNormalization()(x))


def pools(x):
    x = conv(x, 6, activation="relu")
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = conv(x, 6)
    return keras.layers.Flatten()(keras.layers.AveragePooling2D(2, 1)(x))


def padded(x):
    x = keras.layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    return pooled(keras.layers.Conv2D(5, 3, strides=2)(x))


def gate_of_dense_layers(x):
    x = conv(x, 8, activation="relu")
    gate = keras.layers.Dense(3, activation="relu")(pooled(x))
    gate = keras.layers.Reshape((1, 1, 8))(keras.layers.Dense(8, activation="hard_sigmoid")(gate))
    return pooled(keras.layers.Multiply()([x, gate]))


def dense_layers_of_pixels(x):
    gate = keras.layers.Dense(4, activation="hard_sigmoid")(pooled(x, keepdims=True))
    return pooled(keras.layers.Multiply()([keras.layers.Dense(4, activation="relu")(x), gate]))


def gate_without_layers(x):
    return pooled(keras.layers.Multiply()([conv(x, 4), pooled(conv(x, 4, activation="relu"))]))


def super_resolution(x):
    y = conv(conv(x, 6, activation="relu"), 16)
    large = keras.layers.Resizing(12, 12, interpolation="nearest")(x)
    return keras.layers.Add()([layers.DepthToSpace(2)(y), large])


def bilinear(x):
    return pooled(conv(keras.layers.UpSampling2D(2, interpolation="bilinear")(conv(x, 4)), 4))


def probabilities(x):
    return keras.layers.Softmax()(keras.layers.Dense(5)(pooled(conv(x, 6))))


def one_relu_for_all(x):
    relu = keras.layers.ReLU()
    return pooled(relu(conv(relu(conv(x, 4)), 4)))


@pytest.mark.parametrize(
    "build",
    [
        relu_of_a_branch, h_swish_of_a_branch, relu_of_a_sum, gate_in_a_sum, image_in_a_sum, norms_on_their_own, pools,
        padded, gate_of_dense_layers, dense_layers_of_pixels, gate_without_layers, super_resolution, bilinear,
        probabilities, one_relu_for_all,
    ],
)  # fmt: skip
def test_other_operations_are_exact_and_close_to_the_float_model(build):
    model = functional(build)
    x = images((6, 6, 4))
    _, values = assert_exact(model, x, calibration="min_max")
    expected = np.asarray(model(x))
    assert values.reshape(expected.shape).shape == expected.shape
    assert np.abs(values.reshape(expected.shape) - expected).max() < 0.06 * np.ptp(expected)
