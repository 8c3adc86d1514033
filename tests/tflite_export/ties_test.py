"""No accumulator of an exported model lands on a half, where CPUs round otherwise."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tflite_export import lower as lowering
from tflite_export import ties
from tflite_export.lower import lower
from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize


def random_model(seed):
    """A residual block with a gate, whose sizes, bits and weights are random."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    bits, channels, wide, squeezed = (int(rng.choice(n)) for n in ((2, 3, 4, 8), (4, 8), (24, 72, 120), (8, 16, 32)))
    shape = (*rng.integers(6, 11, 2).tolist(), 3)
    layers = keras.layers

    def quantizers(signed=False):
        return {"weight_quantizer": LSQ(bits), "input_quantizer": LSQ(bits, signed=signed)}

    inputs = keras.Input(shape)
    x = layers.Conv2D(channels, 3, padding="same")(inputs)
    y = layers.ReLU()(layers.BatchNormalization()(QuantConv2D(wide, 1, use_bias=False, **quantizers(True))(x)))
    y = QuantDepthwiseConv2D(int(rng.choice((3, 5))), padding="same", activation="relu", **quantizers())(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(squeezed, 1, activation="relu")(gate)
    y = layers.Multiply()([y, layers.Conv2D(wide, 1, activation="hard_sigmoid")(gate)])
    x = layers.Add()([x, QuantConv2D(channels, 1, **quantizers())(y)])
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    for variable in model.trainable_variables:
        if not variable.path.endswith("step"):
            spread = float(rng.uniform(0.05, 0.3))
            variable.assign_add(spread * rng.normal(size=variable.shape))
    initialize(model, images(shape, seed=seed))
    return model, images(shape, n=16, seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_no_accumulator_of_a_random_model_ties(seed, monkeypatch):
    model, x = random_model(seed)
    graph = lowering.lower(model, x)
    assert {op.kind for op in graph.ops} >= {"conv_2d", "depthwise_conv_2d", "fully_connected", "mul", "mean"}
    assert ties.remaining(graph) == {}
    monkeypatch.setattr(ties, "without", lambda graph: graph)
    before = lowering.lower(model, x)
    assert ties.remaining(before)  # there were some
    for name, tensor in graph.tensors.items():
        np.testing.assert_allclose(tensor.scale, before.tensors[name].scale, rtol=3e-4)


def test_a_scale_that_no_move_helps_moves_by_no_more_than_was_promised(monkeypatch):
    model, x = random_model(0)
    monkeypatch.setattr(ties, "without", lambda graph: graph)
    graph = lowering.lower(model, x)
    monkeypatch.undo()
    monkeypatch.setattr(ties, "has_ties", lambda graph, op, among=None: np.ones(1, bool))
    moved = ties.without(graph)
    largest = max(np.abs(moved.tensors[name].scale / t.scale - 1).max() for name, t in graph.tensors.items())
    assert 1e-4 < largest <= 3e-4


@pytest.mark.parametrize("seed", range(8))
def test_ties_are_those_that_trying_every_accumulator_finds(seed):
    rng = np.random.default_rng(seed)
    halves = [0.5, 1.5, 0.25, 0.125, 6.5 / 255, 0.003, 1e-3 * float(rng.uniform(0.5, 2)), 0.1 * float(rng.uniform())]
    ratios = np.float32([h * (1 + n * 2.0**-23) for h, n in itertools.product(halves, (-1, 0, 1))])
    low, high = -int(rng.integers(0, 130)), int(rng.integers(1, 256))
    expected = []
    for ratio in ratios:
        reach = int(257 / ratio) + 2
        steps = np.arange(-reach, reach + 1).astype(np.float32) * ratio
        expected.append(((steps - np.floor(steps) == 0.5) & (steps >= low - 0.5) & (steps <= high + 0.5)).any())
    np.testing.assert_array_equal(ties._ties(ratios, low, high), expected)
    assert 0 < sum(expected) < len(expected)


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
