"""MEAN over height and width: global average pooling."""

import numpy as np
import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of
from tflite_export import reference
from tflite_export.runtime import Runtime
from tflite_export.writer import write

KIND = "mean"


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 7), (14, 14), (1, 1)])
def test_litert_computes_the_same_integers(size, rng):
    for _ in range(4):
        x = activation("x", (*size, 19), contract.scale(rng), int(rng.integers(-20, 20)))
        scale, zero = x.scale * np.float32(rng.uniform(0.1, 0.9)), int(rng.integers(-20, 20))
        graph = graph_of([x, activation("y", (1, 1, 19), scale, zero)], KIND, ("x",))
        contract.assert_litert_agrees(graph, contract.codes(rng, x))


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (2, 3), (1, 3), (1, 2, 3)])
def test_other_axes(axes, keep_dims, rng):
    x = activation("x", (4, 5, 6), contract.scale(rng), int(rng.integers(-20, 20)))
    shape = [1 if place in axes else n for place, n in enumerate(x.shape, 1) if keep_dims or place not in axes]
    y = activation("y", tuple(shape), x.scale * np.float32(rng.uniform(0.3, 0.9)), int(rng.integers(-20, 20)))
    graph = graph_of([x, y], KIND, ("x",), axes=axes, keep_dims=keep_dims)
    contract.assert_litert_agrees(graph, contract.codes(rng, x))


def test_means_next_to_a_half(rng):
    """Sums where multiplying with or without the zero point, and other orders, give other integers."""
    for size in ((2, 2), (3, 5), (7, 7)):
        pixels = size[0] * size[1]
        sums = np.arange(-128 * pixels, 127 * pixels + 1)
        for _ in range(12):
            by = np.float32(rng.choice([0.25, 0.5, 0.75, 1.0, 0.3]) * (1 + rng.integers(-3, 4) * 2.0**-24))
            x = activation("x", (*size, 1), contract.scale(rng), int(rng.integers(-128, 128)))
            y = activation("y", (1, 1, 1), x.scale * by, int(rng.integers(-60, 60)))
            graph = graph_of([x, y], KIND, ("x",))
            exact = (sums - pixels * x.zero_point) / (float(by) * pixels)
            near = sums[(np.abs(exact - np.floor(exact) - 0.5) < 1e-4) & (np.abs(exact) < 120)][:60]
            codes = near[:, None] // pixels + (np.arange(pixels) < (near % pixels)[:, None])
            codes = codes.reshape(-1, *size, 1).astype(np.int8)
            if len(near):
                np.testing.assert_array_equal(reference.run(graph, codes), Runtime(write(graph)).run(codes))


def of_pixels(layers, x):
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))


def of_odd_sizes(layers, x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(6, 2, activation="relu")(x))
    return layers.Conv2D(5, 1)(x)


@pytest.mark.parametrize("build", [of_pixels, of_odd_sizes])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_what_it_cannot_compute_is_refused(assert_refused):
    def channels_first(layers, x):
        return layers.GlobalAveragePooling2D(data_format="channels_first", name="p")(x)

    assert_refused("layer p .*data format channels_first", channels_first)
