"""SLICE: a copy of a part."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "slice"


@pytest.mark.parametrize(
    ("shape", "begin", "size"), [((6, 5, 4), (1, 0, 3), (4, 5, 1)), ((9,), (2,), (5,)), ((3, 4), (0, 0), (3, 4))]
)
def test_litert_computes_the_same_integers(shape, begin, size, rng):
    x = activation("x", shape, scale(rng), int(rng.integers(-128, 128)))
    assert_computes(rng, [x, like(x, size)], KIND, begin=begin, size=size)


def cropping(layers, x):
    return layers.GlobalAveragePooling2D()(
        layers.Conv2D(3, 1)(layers.Cropping2D(((1, 2), (0, 1)))(layers.Conv2D(4, 1)(x)))
    )


def split(layers, x):
    import keras

    one, other = keras.ops.split(layers.Conv2D(6, 3)(x), [2], axis=-1)
    return layers.GlobalAveragePooling2D()(layers.Concatenate()([layers.Conv2D(3, 1)(one), other[:, :, :, 1:]]))


def channels_turned_round(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(x[..., ::-1]))


@pytest.mark.parametrize("build", [cropping, split, channels_turned_round])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
