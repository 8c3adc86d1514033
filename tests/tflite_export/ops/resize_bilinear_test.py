"""RESIZE_BILINEAR: XNNPACK's kernel with shares in 1/2048, and one scale for input and output."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, bilinear, graph_of

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


@pytest.mark.parametrize(("build", "message"), [(antialiased, r"layer r \(Resizing\).*antialias, expected none")])
def test_what_it_cannot_compute_is_refused(build, message, assert_refused):
    assert_refused(message, build)


def test_a_tensor_of_few_bits_goes_to_8_bits_before_it_is_rounded(keras, same_weights):
    from tests.tflite_export.models import assert_exact, functional
    from tfqnas.layers import Quantize
    from tfqnas.quantizers import LSQ
    from tfqnas.supernet import initialize

    def build(x):
        x = Quantize(LSQ(4, signed=True))(keras.layers.Conv2D(4, 3)(x))
        return keras.layers.Resizing(9, 9)(x)

    model, x = functional(build), images((6, 6, 4))
    initialize(model, x)
    graph, values = assert_exact(model, x, calibration="min_max")
    assert [op.kind for op in graph.ops][-2:] == ["mul", KIND]
    step, inside = graph.tensors[graph.output].scale[0], np.asarray(model(x))
    assert np.median(np.abs(values - inside)) <= 1.0 * step
