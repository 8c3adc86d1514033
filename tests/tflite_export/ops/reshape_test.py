"""RESHAPE: where pixels and channels mix; one pixel is one pixel, whatever its axes."""

import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of

KIND = "reshape"


@pytest.mark.parametrize(("before", "after"), [((6, 6, 4), (144,)), ((24,), (2, 3, 4)), ((1, 4, 3), (3, 4, 1))])
def test_litert_computes_the_same_integers(before, after, rng):
    x = activation("x", before, contract.scale(rng), int(rng.integers(-128, 128)))
    y = activation("y", after, x.scale, x.zero_point)
    contract.assert_litert_agrees(graph_of([x, y], KIND, ("x",)), contract.codes(rng, x))


def flat(layers, x):
    return layers.Dense(5)(layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(x)))


def other_pixels(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Reshape((12, 3, 4))(x)))


@pytest.mark.parametrize("build", [flat, other_pixels])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_what_it_cannot_compute_is_refused(assert_refused):
    def rows(layers, x):
        return layers.Reshape((-1, 4), name="r")(x)

    assert_refused(r"layer r \(Reshape\).*its output is \(None, 4\), expected known sizes", rows, (None, None, 4))
