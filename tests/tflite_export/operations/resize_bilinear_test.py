"""RESIZE_BILINEAR: XNNPACK's kernel with shares in 1/2048, and one scale for input and output."""

import pytest

from tests.tflite_export.operations import contract
from tests.tflite_export.operations.contract import activation, bilinear, graph_of

KIND = "resize_bilinear"


@pytest.mark.parametrize(
    ("before", "after"), [((6, 6), (12, 12)), ((7, 5), (4, 9)), ((4, 4), (4, 4)), ((1, 1), (3, 2)), ((9, 8), (2, 3))]
)
def test_litert_computes_the_same_integers(before, after, rng):
    x = activation("x", (*before, 3), contract.scale(rng), int(rng.integers(-128, 128)))
    y = activation("y", (*after, 3), x.scale, x.zero_point)
    contract.assert_litert_agrees(graph_of([x, y], KIND, ("x",)), contract.codes(rng, x))


def of_pixels(layers, x):
    large = layers.Resizing(11, 13, interpolation="bilinear")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(large))


@pytest.mark.parametrize("build", [bilinear, of_pixels])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def antialiased(layers, x):
    return layers.Resizing(9, 9, antialias=True, name="r")(x)


def few_bits(layers, x):
    from tfqnas.layers import Quantize
    from tfqnas.quantizers import LSQ

    layer = Quantize(LSQ(4, signed=True), name="q")
    quantized = layer(layers.Conv2D(4, 3, name="c")(x))
    layer.quantizer.step.assign(0.1)
    return layers.Resizing(9, 9, name="r")(quantized)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (antialiased, r"layer r \(Resizing\).*antialias, expected none"),
        (few_bits, "layer r: it rounds its input, expected 8 bits, received 4"),
    ],
)
def test_what_it_cannot_compute_is_refused(build, message, assert_refused):
    assert_refused(message, build)
