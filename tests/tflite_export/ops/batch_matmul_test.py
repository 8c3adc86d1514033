"""BATCH_MATMUL: in XNNPACK if the zero point of the second tensor is 0, else in LiteRT's own kernel."""

import numpy as np
import pytest

from tests.tflite_export.ops.contract import N, activation, assert_computes, assert_litert_agrees, graph_of, scale
from tflite_export.ops.registry import rounds_ties

KIND = "batch_matmul"


@pytest.mark.parametrize("zero", [0, 7])
@pytest.mark.parametrize(("adj_x", "adj_y"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("heads", [(), (3,)])
def test_litert_computes_the_same_integers(heads, adj_x, adj_y, zero, rng):
    n, m, k = 9, 7, 16
    x = activation("x", (*heads, *((k, n) if adj_x else (n, k))), scale(rng), int(rng.integers(-128, 128)))
    a = activation("a", (*heads, *((m, k) if adj_y else (k, m))), scale(rng), zero)
    y = activation("y", (*heads, n, m), x.scale * a.scale * np.float32(200), int(rng.integers(-60, 60)))
    assert_computes(rng, [x, a, y], KIND, ("x", "a"), adj_x=adj_x, adj_y=adj_y)
    assert rounds_ties(graph_of([x, a, y], KIND, ("x", "a")), graph_of([x, a, y], KIND, ("x", "a")).ops[0]) == (
        not zero
    )


@pytest.mark.parametrize("zero", [0, 7])
def test_sums_next_to_a_half(zero, rng):
    """Where another order of the roundings, or rounding once, would give other integers."""
    for _ in range(12):
        x, a = activation("x", (1, 2), scale(rng), -3), activation("a", (2, 1), scale(rng), zero)
        by = np.float32(rng.choice([32, 64, 96]) * (1 + rng.integers(-3, 4) * 2.0**-24))
        graph = graph_of([x, a, activation("y", (1, 1), x.scale * a.scale * by, 4)], KIND, ("x", "a"))
        values = rng.integers(-128, 128, (2000, 2, 2))
        steps = ((values[:, 0] + 3) * (values[:, 1] - zero)).sum(axis=1) / float(by)
        near = values[np.abs(steps - np.floor(steps) - 0.5) < 0.02][:N].astype(np.int8)
        assert len(near) > 10
        assert_litert_agrees(graph, [near[:, 0].reshape(-1, 1, 2), near[:, 1].reshape(-1, 2, 1)])


def attention(layers, x):
    x = layers.Reshape((9, 8))(layers.Conv2D(8, 3, strides=2, padding="same")(x))
    return layers.GlobalAveragePooling1D()(layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)]))


@pytest.mark.parametrize("build", [attention])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
