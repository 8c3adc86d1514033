"""SUM over some axes."""

import numpy as np
import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, assert_litert_agrees, graph_of, scale

KIND = "sum"


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 3), (1, 2, 3)])
def test_litert_computes_the_same_integers(axes, keep_dims, rng):
    x = activation("x", (5, 4, 3), scale(rng), int(rng.integers(-20, 20)))
    shape = [1 if place in axes else n for place, n in enumerate(x.shape, 1) if keep_dims or place not in axes]
    y = activation("y", tuple(shape), x.scale * np.float32(rng.uniform(1, 4)), int(rng.integers(-20, 20)))
    assert_computes(rng, [x, y], KIND, axes=axes, keep_dims=keep_dims)


def test_sums_next_to_a_half(rng):
    """Where correcting for the zero point before the product would give other integers."""
    told = 0
    for _ in range(20):
        by = np.float32(rng.choice([2, 4, 6, 10]) * (1 + rng.integers(-3, 4) * 2.0**-24))
        x = activation("x", (3, 5, 1), scale(rng), int(rng.integers(-128, 128)))
        y = activation("y", (1, 1, 1), x.scale * by, int(rng.integers(-60, 60)))
        sums = np.arange(-128 * 15, 127 * 15 + 1)
        exact = (sums - 15 * x.zero_point) / float(by)
        near = sums[(np.abs(exact - np.floor(exact) - 0.5) < 1e-4) & (np.abs(exact) < 60)][:60]
        integers = near[:, np.newaxis] // 15 + (np.arange(15) < (near % 15)[:, np.newaxis])
        if len(near) > 10:
            told += 1
            graph = graph_of([x, y], KIND, ("x",), axes=(1, 2), keep_dims=True)
            assert_litert_agrees(graph, integers.reshape(-1, *x.shape).astype(np.int8))
    assert told > 5


def along_the_width(layers, x):
    import keras

    y = layers.Conv2D(4, 3)(x)
    return layers.Flatten()(layers.Conv2D(3, 1)(keras.ops.sum(y, axis=2, keepdims=True)))


@pytest.mark.parametrize("build", [along_the_width])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
