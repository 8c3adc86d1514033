import numpy as np
import pytest
import tensorflow as tf

from tfqnas.data.augment import Augmentation, crop_boxes, recoloured


def boxes(height, width, augmentation, count=400, seed=(1, 2)):
    sizes = (tf.fill((count,), size) for size in (height, width))
    return crop_boxes(*sizes, augmentation, tf.constant(seed, tf.int64)).numpy()


@pytest.mark.parametrize(("height", "width", "box"), [(20, 30, [0, 5, 20, 20]), (31, 20, [5, 0, 20, 20])])
def test_without_random_crop_the_box_is_the_square_in_the_middle(height, width, box):
    assert boxes(height, width, Augmentation(), 3).tolist() == [box] * 3


def test_random_crops_keep_to_area_aspect_and_image_and_fill_their_ranges():
    augmentation = Augmentation(crop_area=0.1)
    found = boxes(200, 300, augmentation)
    top, left, height, width = found.T
    area, aspect = height * width / (200 * 300), width / height
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 200).all() and (left + width <= 300).all()
    assert 0.095 < area.min() < 0.15 and 0.8 < area.max() <= 1
    assert 0.74 < aspect.min() < 0.78 and 1.28 < aspect.max() < 1.35
    assert np.std(top) > 20 and np.std(left) > 30 and (left + width).max() > 290 and (top + height).max() > 195
    assert 0.35 < np.mean(area) < 0.5  # large ones fit less often
    assert abs(np.mean(np.log(aspect))) < 0.04
    np.testing.assert_array_equal(found, boxes(200, 300, augmentation))
    assert not np.array_equal(found, boxes(200, 300, augmentation, seed=(1, 3)))


def test_where_no_crop_fits_the_square_in_the_middle_is_taken():
    found = boxes(10, 1000, Augmentation(crop_area=0.5), 50)  # at least 5,000 of 10,000 pixels, 10 of them high
    assert found.tolist() == [[0, 495, 10, 10]] * 50


def test_brightness_scales_all_pixels_of_an_image_by_one_factor():
    images = np.full((64, 4, 4, 3), 100.0, np.float32)
    factors = recoloured(tf.constant(images), Augmentation(brightness=0.2), tf.constant([3, 4], tf.int64)).numpy() / 100
    one = factors[:, 0, 0, 0]
    np.testing.assert_allclose(factors, np.broadcast_to(one[:, None, None, None], factors.shape), atol=1e-6)
    assert 0.8 <= one.min() < 0.83 and 1.17 < one.max() <= 1.2


def test_saturation_scales_the_distance_to_grey_and_leaves_grey_as_it_is(rng):
    images = rng.uniform(60, 180, (64, 2, 2, 3)).astype(np.float32)
    seed = tf.constant([3, 4], tf.int64)
    x = recoloured(tf.constant(images), Augmentation(saturation=0.5), seed).numpy()
    weights = np.array([0.2989, 0.587, 0.114])
    grey = (images @ weights)[..., None]
    factors = ((x - grey) / (images - grey))[:, 0, 0]
    np.testing.assert_allclose(factors, factors[:, :1].repeat(3, 1), rtol=0.02)
    assert 0.5 <= factors.min() < 0.6 and 1.4 < factors.max() < 1.51
    np.testing.assert_allclose(x @ weights, grey[..., 0], atol=0.1)
    one = tf.constant(images[..., :1])
    np.testing.assert_array_equal(recoloured(one, Augmentation(saturation=0.5), seed), one)


@pytest.mark.parametrize("name", ["brightness", "saturation"])
def test_colours_stay_between_0_and_255(rng, name):
    images = tf.constant(rng.choice([0.0, 255.0, 130.0], (20, 3, 3, 3)).astype(np.float32))
    x = recoloured(images, Augmentation(**{name: 0.9}), tf.constant([0, 0], tf.int64)).numpy()
    assert x.min() >= 0 and x.max() <= 255 and np.abs(x - images).max() > 20
