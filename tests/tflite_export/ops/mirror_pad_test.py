"""MIRROR_PAD: copies of what lies at the border."""

import pytest

from tests.tflite_export.ops.contract import activation, assert_computes, like, scale

KIND = "mirror_pad"


@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
@pytest.mark.parametrize("paddings", [((1, 1), (1, 1), (0, 0)), ((3, 0), (2, 1), (0, 2)), ((0, 0), (0, 0), (1, 1))])
def test_litert_computes_the_same_integers(paddings, mode, rng):
    x = activation("x", (5, 4, 3), scale(rng), int(rng.integers(-128, 128)))
    shape = [n + sum(margin) for n, margin in zip(x.shape, paddings, strict=True)]
    assert_computes(rng, [x, like(x, shape)], KIND, paddings=paddings, mode=mode)


def reflected(layers, x):
    import keras

    x = keras.ops.pad(layers.Conv2D(4, 1)(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(x))


@pytest.mark.parametrize("build", [reflected])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build, official=False)
