"""RESIZE_NEAREST_NEIGHBOR, with pixels counted at their centres."""

import pytest

from tests.tflite_export.ops import contract
from tests.tflite_export.ops.contract import activation, graph_of

KIND = "resize_nearest"


@pytest.mark.parametrize(
    ("before", "after"), [((6, 6), (12, 12)), ((7, 5), (4, 9)), ((4, 4), (4, 4)), ((1, 1), (3, 2)), ((9, 8), (2, 3))]
)
def test_litert_computes_the_same_integers(before, after, rng):
    x = activation("x", (*before, 3), contract.scale(rng), int(rng.integers(-128, 128)))
    y = activation("y", (*after, 3), x.scale, x.zero_point)
    contract.assert_litert_agrees(graph_of([x, y], KIND, ("x",)), contract.codes(rng, x))


def of_pixels(layers, x):
    large = layers.Resizing(11, 13, interpolation="nearest")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(large))


def of_activations(layers, x):
    x = layers.UpSampling2D(2)(layers.Conv2D(4, 3, activation="relu")(x))
    return layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))


@pytest.mark.parametrize("build", [of_pixels, of_activations])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interpolation": "bicubic"}, "interpolation bicubic, expected one of bilinear, nearest"),
        ({"interpolation": "nearest", "crop_to_aspect_ratio": True}, "crop_to_aspect_ratio, expected none"),
        ({"interpolation": "nearest", "pad_to_aspect_ratio": True}, "pad_to_aspect_ratio, expected none"),
    ],
    ids=["bicubic", "crop", "pad"],
)
def test_what_it_cannot_compute_is_refused(settings, message, assert_refused):
    assert_refused(f"layer r .Resizing.*{message}", lambda layers, x: layers.Resizing(9, 9, name="r", **settings)(x))
