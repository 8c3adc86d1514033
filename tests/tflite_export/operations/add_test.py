"""ADD: what it connects has one scale and one zero point, so nothing is rounded."""

import numpy as np
import pytest

from tests.tflite_export.operations import contract
from tests.tflite_export.operations.contract import activation, graph_of
from tflite_export.int_graph import IntGraph, IntOp

KIND = "add"


def to_itself(x, y, options):
    return graph_of([x, y], KIND, ("x", "x"), **options)


def to_another(x, y, options):
    largest = activation("m", x.shape, x.scale, x.zero_point)
    pool = IntOp("max_pool_2d", ("x",), ("m",), {"size": (3, 3), "strides": (1, 1), "padding": "same"})
    return IntGraph({t.name: t for t in (x, largest, y)}, (pool, IntOp(KIND, ("x", "m"), ("y",), options)), "x", "y")


@pytest.mark.parametrize("build", [to_itself, to_another])
@pytest.mark.parametrize("fused", ["none", "relu", "relu6"])
@pytest.mark.parametrize("zero", [5, -128, 127])
def test_litert_computes_the_same_integers(zero, fused, build, rng):
    if zero == 127 and fused != "none":
        zero = 60  # a RELU would leave nothing
    scale = contract.scale(rng)
    x, y = (activation(name, (6, 6, 8), scale, zero) for name in ("x", "y"))
    contract.assert_litert_agrees(build(x, y, {"activation": fused}), contract.codes(rng, x))


def of_the_image(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)]))


def with_relu(layers, x):
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.ReLU()(layers.Add()([y, layers.Conv2D(4, 3, padding="same")(y)]))
    return layers.GlobalAveragePooling2D()(y)


@pytest.mark.parametrize("build", [of_the_image, with_relu])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def three_terms(layers, x):
    return layers.Add(name="a")([x, x, x])


def a_value_for_each_channel(layers, x):
    return layers.Add(name="a")([x, layers.GlobalAveragePooling2D(keepdims=True)(x)])


def two_grids(layers, x):
    from tfqnas.layers import Quantize
    from tfqnas.quantizers import Calibrated

    quantized = []
    for i in range(2):
        y = layers.Conv2D(4, 3, padding="same", name=f"c{i}")(x)
        layer = Quantize(Calibrated(), name=f"q{i}")
        quantized.append(layer(y))
        layer.quantizer.set_from(np.float32([-1 - i, 1]))
    return layers.Add(name="a")(quantized)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (three_terms, "layer a .*reads 3 tensors, expected 2"),
        (a_value_for_each_channel, r"layer a \(Add\).*\(6, 6, 4\) and \(1, 1, 4\)"),
        (two_grids, "layer a: .* share one grid, but the quantizers of c0 and c1 differ"),
    ],
)
def test_what_it_cannot_compute_is_refused(build, message, assert_refused):
    assert_refused(message, build)
