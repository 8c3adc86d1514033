"""CONCATENATION: copies of tensors on one grid."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "concatenation"


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_litert_computes_the_same_integers(axis, rng):
    x = activation("x", (3, 4, 5), scale(rng), int(rng.integers(-128, 128)))
    shape = [2 if place == axis else n for place, n in enumerate(x.shape, 1)]
    both = [n + m if place == axis else n for place, (n, m) in enumerate(zip(x.shape, shape, strict=True), 1)]
    assert_computes(rng, [x, like(x, shape, "a"), like(x, both)], KIND, ("x", "a"), axis=axis)
    six = [6 * n if place == axis else n for place, n in enumerate(x.shape, 1)]
    assert_computes(rng, [x, like(x, six)], KIND, ("x",) * 6, axis=axis)


def of_branches(layers, x):
    return layers.GlobalAveragePooling2D()(
        layers.Concatenate()([layers.Conv2D(3, 3)(x), layers.Conv2D(2, 3, activation="relu")(x)])
    )


def of_what_others_read(layers, x):
    """A dense block, and the skip connection of a U-Net."""
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    for _ in range(2):
        y = layers.Concatenate()([y, layers.Conv2D(2, 3, padding="same")(y)])
    small = layers.UpSampling2D(2)(layers.Conv2D(3, 1)(layers.MaxPooling2D(2)(y)))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(layers.Concatenate()([small, y])))


def along_the_width(layers, x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(layers.Concatenate(axis=2)([x, x, x])))


@pytest.mark.parametrize("build", [of_branches, of_what_others_read, along_the_width])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
