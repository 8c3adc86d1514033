"""Keras models as integers: the same in the numpy reference and in LiteRT."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact, chain, norm, pooled, quantized
from tflite_export import ExportError, export, reference, ties
from tflite_export.explain import costliest, explain
from tflite_export.folding import folded
from tflite_export.int_graph import pixels_of, ratios, with_interface
from tflite_export.lower import check, lower, saturated
from tflite_export.runtime import Runtime
from tflite_export.verify import verify
from tflite_export.writer import write
from tfqnas.errors import UserError
from tfqnas.graph.reading import sites_of
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, LSQPerChannel
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


def test_sequential_models_are_exact():
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), quantized(name="inner")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((7, 5, 2)), *layers])
    initialize(model, images((7, 5, 2)))
    assert_exact(model, images((7, 5, 2)))
    with pytest.raises(UserError, match="expected a functional or Sequential model that has been built"):
        sites_of(keras.Sequential([keras.layers.Dense(3)]))


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
    with pytest.raises(ExportError, match="metadata: expected JSON values"):
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
    with pytest.raises(ExportError, match="expected one input and one output, received 2 and 1"):
        lower(model, images((4, 4, 2)))


@pytest.mark.parametrize("blob", [b"", b"not a model", b"\x00" * 64, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 90])
def test_a_foreign_file_is_refused_and_kills_nothing(blob):
    with pytest.raises(UserError, match="not a .tflite model"):
        Runtime(blob)
