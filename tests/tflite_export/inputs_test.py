"""Images and their normalisation: what has exact integers, and what is refused."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact, chain, pooled
from tflite_export import ExportError, export
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower

pytestmark = pytest.mark.usefixtures("same_weights")


def test_another_mean_folds_into_the_input_where_it_is_a_pixel():
    model = chain(keras.layers.Conv2D(6, 3, padding="same", activation="relu"))
    pixels = np.rint(images((7, 5, 2)) * 128 + 128)
    x = ((pixels - 100) / 60).astype(np.float32)
    graph, _ = assert_exact(model, x, normalization=(100, 60))
    np.testing.assert_array_equal(pixels_of(graph, x).astype(int) + 128, pixels)
    with pytest.raises(ExportError, match=r"\(x - 127.5\) / 127.5: its zero is no pixel.*\(x - 128\) / 127.5 has"):
        lower(model, x, normalization=(127.5, 127.5))


def test_images_of_any_size_are_refused():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled(keras.layers.Conv2D(4, 3)(inputs))), name="any")
    with pytest.raises(ExportError, match=r"any: expected images of one size, its input is \(None, None, 3\)"):
        lower(model, images((8, 8, 3)))


def test_images_that_calibrate_nothing_are_refused(subnets):
    x = images(subnets(4).input_shape[1:])
    with pytest.raises(ExportError, match="received 0 of"):
        lower(subnets(4), x[:0])
    with pytest.raises(ExportError, match="expected finite values"):
        lower(subnets(4), np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x))


@pytest.mark.parametrize(
    ("values", "normalization", "advice"),
    [
        ("unit", (128, 128), r"`normalization=\(0, 255\)` fits them"),
        ("bytes", (128, 128), r"`normalization=\(0, 1\)` fits them"),
        ("floats of bytes", (128, 128), r"`normalization=\(0, 1\)` fits them"),
        ("signed", (0, 255), r"`normalization=\(128, 128\)` fits them"),
        ("signed", (0, 1), r"`normalization=\(128, 128\)` fits them"),
        ("kelvin", (0, 255), "takes values that are no pixels"),
    ],
)
def test_images_that_are_normalised_otherwise_are_refused_with_what_would_fit(values, normalization, advice, subnets):
    x = images(subnets(4).input_shape[1:])
    x = {
        "unit": (x + 1) / 2,
        "bytes": np.rint(x * 128 + 128).astype(np.uint8),
        "floats of bytes": np.rint(x * 128 + 128),
        "signed": x,
        "kelvin": x * 9 + 290,
    }[values]
    with pytest.raises(ExportError, match=f"calibration images: expected .*received .*{advice}"):
        lower(subnets(4), x, normalization=normalization)


@pytest.mark.parametrize(("scale", "offset", "operations"), [(1 / 127.5, -1, 3), (1 / 255, 0, 3), (1 / 3, 40, 4)])
def test_a_rescaling_in_the_model_becomes_the_grid_of_the_input(scale, offset, operations):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same")(keras.layers.Rescaling(scale, offset)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(pooled(x)))
    pixels = images((8, 8, 3)) * 128 + 128
    graph, values = assert_exact(model, pixels, normalization=(0, 1))
    assert len(graph.ops) == operations
    assert np.abs(values - model(pixels)).max() < 0.03 * np.ptp(model(pixels))
    honest = lower(model, pixels, normalization=(0, 1), fold_input=False)
    assert (honest.tensors[honest.input].scale, honest.tensors[honest.input].zero_point) == (1, -128)


def test_images_of_another_size_are_refused(subnets):
    with pytest.raises(ExportError, match=r"expected size \(12, 12, 1\).*received 48 of \(8, 8, 1\)"):
        lower(subnets(4), images((8, 8, 1)))


@pytest.mark.parametrize(
    ("normalization", "message"),
    [
        (128, r"expected two numbers, \(mean, divisor\) of the pixels, received 128"),
        (None, "expected two numbers, .*received None"),
        ("imagenet", "expected two numbers, .*received 'imagenet'"),
        ((1, 2, 3), "expected two numbers"),
        (("a", "b"), "expected two numbers"),
        (((1, 2, 3), (4, 5, 6)), r"one value for all channels.*such as \(x - 2\) / 5"),
        ((300, 128), r"no pixel value.*\(x - 255\) / 128 has"),
        ((128, 0), "expected a positive divisor"),
    ],
)
def test_normalisations_without_exact_integers_are_refused(normalization, message):
    model = chain(keras.layers.Conv2D(6, 3))
    with pytest.raises(ExportError, match=message):
        lower(model, images((7, 5, 2)), normalization=normalization)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: None, r"expected float32 \('n', 12, 12, 1\), received None"),
        (lambda x: (x * 128 + 128).astype(np.uint8), r"expected \(pixel - 128\) / 128, .* whole numbers from 0"),
        (lambda x: x * 128 + 128, r"expected \(pixel - 128\) / 128, from -1 to 0.99.* received values from .* to 25"),
        (lambda x: "a text", "calibration images: expected an array"),
        (lambda x: [x[0], x[0, :3]], "calibration images: expected an array"),
    ],
    ids=["none", "bytes", "pixels", "text", "ragged"],
)
def test_other_things_than_normalised_images_are_refused(change, message, subnets):
    model = subnets(4)
    with pytest.raises(ExportError, match=message):
        export(model, change(images(model.input_shape[1:])))
