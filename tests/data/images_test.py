import io
import math

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from tfqnas.data.image_files import ORIENTATION, facts, shown
from tfqnas.data.images import (
    EvaluationImages,
    batches_of,
    decode,
    decode_cropped,
    decode_then_crop,
    decoded,
    evaluation_image,
    read_image,
    resized,
)
from tfqnas.data.splits import Arrays, Encoded

COUNT = 30


def coloured():
    return np.random.default_rng(7).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)


def triangle(size, resolution):
    """The matrix of bilinear resizing with antialiasing along one axis, half-pixel centres, float64."""
    scale = size / resolution
    centres = (np.arange(resolution) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("resolution", [5, 8, 20])
def test_evaluation_images_are_resized_and_stay_on_the_8_bit_grid(resolution):
    images = coloured()
    x = resized(images, resolution).numpy()
    matrix = triangle(8, resolution)
    expected = np.einsum("ri,nijc,sj->nrsc", matrix, np.float64(images), matrix)
    pixels = x * 128 + 128
    assert x.dtype == np.float32 and x.shape == (COUNT, resolution, resolution, 3)
    np.testing.assert_array_equal(pixels, np.rint(pixels))
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-3
    assert x.min() >= -1 and x.max() < 1


def test_many_images_are_resized_as_one():
    images = np.random.default_rng(0).integers(0, 256, (2100, 2, 2, 1), np.uint8)
    together = resized(images, 3)
    for part in (slice(0, 5), slice(1020, 1030), slice(2095, 2100)):
        np.testing.assert_array_equal(together[part], resized(images[part], 3))


@pytest.mark.parametrize(("height", "width"), [(20, 30), (31, 20), (24, 24)])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_test_images_are_scaled_by_their_shorter_side_and_cut_in_the_middle(height, width, crop, photo):
    image = photo(3, height, width)
    side = math.ceil(16 / crop)  # 19 for 0.875
    shorter = min(height, width)
    size = height * side // shorter, width * side // shorter
    scaled = tf.image.resize(np.float32(image), size, antialias=True).numpy()
    top, left = (size[0] - 16) // 2, (size[1] - 16) // 2
    expected = np.rint(scaled[top : top + 16, left : left + 16])
    found = evaluation_image(tf.constant(image), 16, crop)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(evaluation_image(image[np.newaxis], 16, crop)[0], expected)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_decoding_a_part_of_a_file_gives_the_pixels_of_decoding_it_all(form, encode, photo):
    """At a JPEG crop's edge the colours, stored at half the size, lack their neighbours."""
    file = encode(photo(1, 67, 90), form)
    for box in ([0, 0, 67, 90], [16, 32, 32, 32], [11, 5, 40, 61]):
        box_of = lambda height, width, box=box: tf.constant(box)  # noqa: E731
        ours, theirs = (made(shown(file, 3), box_of, 24, 3) for made in (decode_cropped, decode_then_crop))
        difference = np.abs(ours - theirs)
        assert difference[2:-2, 2:-2].max() < 1e-3 and difference.max() <= (8 if form == "JPEG" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_part_of_a_turned_image_is_that_part_of_the_upright_one(form, orientation, encode, photo):
    """Boxes are at the edges of a JPEG's blocks, where decoding a part changes nothing."""
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    image = photo(1, 64, 96)
    upright = np.asarray(PIL.ImageOps.exif_transpose(_with_orientation(decoded(encode(image, form), 3), orientation)))
    file = encode(image, form, exif=exif)
    np.testing.assert_array_equal(decoded(file, 3), upright)
    height, width = upright.shape[:2]
    for box in ([0, 0, height, width], [16, 32, 16, 32], [32, 16, 32, 48]):
        part = upright[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]
        seen = []

        def box_of(*size, box=box, seen=seen):
            seen.append([int(n) for n in size])
            return tf.constant(box)

        found = decode_cropped(shown(file, 3), box_of, 24, 3)
        expected = tf.image.resize(part, (24, 24), antialias=True)
        assert seen == [[height, width]]
        assert np.abs(found - expected)[2:-2, 2:-2].max() < 1e-3


def _with_orientation(pixels, orientation):
    image = PIL.Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    return image


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_shape_of_a_file_is_read_and_it_is_decoded_to_the_channels_asked_for(form, channels, encode, photo):
    file = encode(photo(2, 21, 34, channels), form)
    assert facts(file)[:2] == (21, 34)
    assert [decoded(file, c).shape for c in (1, 3)] == [(21, 34, 1), (21, 34, 3)]


@pytest.mark.parametrize("memory", [1e9, 100])
def test_evaluation_images_are_the_same_whether_they_fit_in_memory_or_are_decoded_for_each_pass(encoded, files, memory):
    images = EvaluationImages(encoded, 12, 0.875, memory)
    assert (images.nbytes > 0) == (memory == 1e9) and len(images) == 12
    assert images.labels.tolist() == list(range(12))
    for _ in range(2):
        parts = [batch.numpy() for batch in images.batches(5)]
        assert [len(part) for part in parts] == [5, 5, 2]
        for image, (file, _) in zip(np.concatenate(parts), files, strict=True):
            expected = evaluation_image(decode(shown(file, 3), 3), 12, 0.875).numpy()
            np.testing.assert_array_equal(image * 128 + 128, expected)


def _in_each_form(image):
    """The files of a picture in every form that reading treats in its own way, several of which lose something."""

    def saved(picture, form, **options):
        file = io.BytesIO()
        picture.save(file, form, **options)
        return file.getvalue()

    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    coloured = PIL.Image.fromarray(image)
    grey, alpha = coloured.convert("L"), PIL.Image.fromarray(image[..., 2])
    deep = np.asarray(grey).astype(np.uint16) * 256 + 31
    clear = coloured.copy()
    clear.putalpha(alpha)
    return [
        saved(coloured, "JPEG"),
        saved(coloured, "JPEG", exif=exif),
        saved(coloured.convert("CMYK"), "JPEG"),
        saved(grey, "JPEG"),
        saved(coloured, "PNG", exif=exif),
        saved(grey.convert("1"), "PNG"),
        saved(PIL.Image.fromarray(deep), "PNG"),
        saved(PIL.Image.fromarray(deep / np.float32(65535)), "TIFF"),
        saved(clear, "PNG"),
        saved(clear.convert("LA"), "PNG"),
        saved(clear, "WEBP"),
        saved(coloured.quantize(16), "PNG", transparency=3),
        saved(coloured.quantize(16), "GIF", transparency=3),
        saved(coloured, "BMP"),
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_sees_the_same_pixels_as_prediction(channels, photo, tmp_path):
    files = _in_each_form(photo(5, 24, 31))
    split = Encoded(lambda number: (files[number], number), np.arange(len(files)), channels)
    for file, scored in zip(files, next(iter(EvaluationImages(split, 12, 0.875).batches(99))), strict=True):
        (tmp_path / "file").write_bytes(file)
        image = read_image(tmp_path / "file", channels)
        np.testing.assert_array_equal(scored, resized(image[np.newaxis], 12, 0.875)[0])
        assert image.std() > 10  # neither white nor black


def test_images_in_memory_become_evaluation_images(rng):
    split = Arrays(rng.integers(0, 256, (7, 8, 8, 1), np.uint8), np.arange(7, dtype=np.int32))
    images = EvaluationImages(split, 12)
    np.testing.assert_array_equal(np.concatenate(list(batches_of(images, 3))), resized(split.images, 12))
    array = np.ones((5, 2, 2, 1), np.float32)
    assert [len(batch) for batch in batches_of(array, 2)] == [2, 2, 1]
