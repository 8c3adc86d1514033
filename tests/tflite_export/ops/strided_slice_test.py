"""STRIDED_SLICE: a copy of every n-th value."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "strided_slice"


@pytest.mark.parametrize(
    ("shape", "begin", "end", "strides"),
    [((6, 5, 4), (1, 0, 3), (6, 5, 4), (2, 3, 1)), ((9,), (2,), (7,), (1,)), ((8, 8), (0, 1), (8, 8), (2, 2))],
)
def test_litert_computes_the_same_integers(shape, begin, end, strides, rng):
    x = activation("x", shape, scale(rng), int(rng.integers(-128, 128)))
    size = [len(range(*part)) for part in zip(begin, end, strides, strict=True)]
    assert_computes(rng, [x, like(x, size)], KIND, begin=begin, end=end, strides=strides)


def every_second(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(layers.Conv2D(4, 3, padding="same")(x)[:, ::2, 1::3]))


@pytest.mark.parametrize("build", [every_second])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
