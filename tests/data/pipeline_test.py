import functools

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.data.augment import Augmentation, crop_boxes
from tfqnas.data.pipeline import training_batches
from tfqnas.data.splits import Arrays

NONE = Augmentation()
ALL_KINDS = Augmentation(shift=0.1, zoom=0.2, rotation=15.0, flip=True)
COUNT = 30


@functools.cache
def numbered(height=8, width=8, channels=1):
    """Images whose label is their number, written into their first pixels' brightness as well."""
    images = np.random.default_rng(7).integers(0, 256, (COUNT, height, width, channels), np.uint8)
    return images, np.arange(COUNT, dtype=np.int32)


def batches(start, stop, resolution=8, batch_size=8, seed=3, augmentation=NONE, context=None, arrays=None):
    split = Arrays(*(arrays or numbered()))
    made = training_batches(split, resolution, batch_size, seed, start, stop, augmentation, context)
    return [(x.numpy(), y.numpy()) for x, y in made]


def assert_equal_batches(some, others):
    for (x, y), (other_x, other_y) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


# -- Which images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [NONE, ALL_KINDS], ids=["plain", "augmented"])
def test_a_batch_depends_on_the_seed_and_its_step_alone(augmentation):
    whole = batches(0, 9, augmentation=augmentation)
    for start, stop in ((0, 1), (3, 5), (8, 9), (4, 4)):
        assert_equal_batches(batches(start, stop, augmentation=augmentation), whole[start:stop])


def test_another_seed_gives_another_order():
    orders = [np.concatenate([y for _, y in batches(0, 4, seed=seed)]).tolist() for seed in range(4)]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("batch_size", [8, 7, 30, 5])
def test_each_epoch_is_a_permutation_of_all_images(batch_size):
    epochs = 4
    labels = np.concatenate([y for _, y in batches(0, -(-epochs * COUNT // batch_size), batch_size=batch_size)])
    orders = labels[: epochs * COUNT].reshape(epochs, COUNT)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(COUNT), (epochs, 1)))
    assert len({tuple(order) for order in orders.tolist()}) == epochs  # not the same one again
    assert not (orders == np.arange(COUNT)).all(axis=1).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_follow_their_images(channels):
    images, labels = numbered(channels=channels)
    for x, y in batches(0, 8, arrays=(images, labels)):
        assert x.dtype == np.float32 and y.dtype == np.int32 and x.shape == (8, 8, 8, channels)
        np.testing.assert_array_equal(np.rint(x * 128 + 128), images[y])


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_the_shares_of_the_replicas_are_the_batch_of_one_device(workers, replicas):
    local = replicas // workers
    shares = [batches(2, 6, context=tf.distribute.InputContext(workers, worker, replicas)) for worker in range(workers)]
    for step, (x, y) in enumerate(batches(2, 6)):
        parts = [share[step * local + i] for share in shares for i in range(local)]
        assert all(len(part_y) == 8 // replicas for _, part_y in parts)
        np.testing.assert_array_equal(np.concatenate([part_x for part_x, _ in parts]), x)
        np.testing.assert_array_equal(np.concatenate([part_y for _, part_y in parts]), y)


# -- What is done to them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 12)])
@pytest.mark.parametrize("resolution", [8, 12, 20])
def test_without_augmentation_training_images_are_scaled_up_as_by_tf_image_resize(resolution, height, width):
    images, labels = numbered(height, width)
    for x, y in batches(0, 2, resolution=max(resolution, width), arrays=(images, labels)):
        side = x.shape[1]
        whole = tf.image.resize(np.float32(images[y]), (side, side * width // height))  # half-pixel centres
        left = (whole.shape[2] - side) // 2
        expected = (whole[:, :, left : left + side] - 128.0) / 128.0  # the square in the middle
        np.testing.assert_allclose(x, expected, atol=2e-5)


def test_flipping_mirrors_about_half_of_the_images_and_changes_nothing_else():
    images, _ = numbered()
    mirrored = []
    for x, y in batches(0, 30, augmentation=Augmentation(flip=True)):
        for one, label in zip(np.rint(x * 128 + 128), y, strict=True):
            same, other = np.array_equal(one, images[label]), np.array_equal(one, images[label][:, ::-1])
            assert same != other
            mirrored.append(other)
    assert 0.35 < np.mean(mirrored) < 0.65


def where_read(augmentation, steps=40, size=9):
    """Where the output's pixels about the centre read the input: a list of (rows, columns), each (3, 3)."""
    pixel = np.stack(np.mgrid[:size, :size], axis=-1) * 10  # its row and its column, in two channels
    arrays = np.tile(np.uint8(pixel), (4, 1, 1, 1)), np.zeros(4, np.int32)
    middle = slice(size // 2 - 1, size // 2 + 2)
    read = []
    for x, _ in batches(0, steps, resolution=size, batch_size=4, augmentation=augmentation, arrays=arrays):
        values = (x * 128 + 128)[:, middle, middle] / 10
        read += [(one[..., 0], one[..., 1]) for one in values]
    return read


def test_shift_moves_images_by_at_most_its_share_and_keeps_their_size():
    read = where_read(Augmentation(shift=0.2))
    moved = np.array([(y[1, 1] - 4, x[1, 1] - 4) for y, x in read])
    assert np.abs(moved).max() <= 0.2 * 9 + 1e-4 and np.abs(moved).max(axis=0).min() > 0.17 * 9
    assert np.abs(np.corrcoef(moved.T)[0, 1]) < 0.3  # rows and columns on their own
    for y, x in read:
        np.testing.assert_allclose(np.diff(y, axis=0), 1, atol=1e-3)
        np.testing.assert_allclose(np.diff(x, axis=1), 1, atol=1e-3)


def test_zoom_changes_the_size_about_the_centre_alike_along_both_axes():
    read = where_read(Augmentation(zoom=0.3))
    sizes = []
    for y, x in read:
        np.testing.assert_allclose((y[1, 1], x[1, 1]), 4, atol=1e-3)
        sizes.append(y[2, 1] - y[1, 1])
        assert x[1, 2] - x[1, 1] == pytest.approx(sizes[-1], abs=1e-3)
    assert 0.7 <= min(sizes) < 0.75 and 1.25 < max(sizes) <= 1.3


@pytest.mark.parametrize("flip", [False, True])
def test_rotation_turns_about_the_centre_without_a_change_of_size(flip):
    angles = []
    for y, x in where_read(Augmentation(rotation=20.0, flip=flip)):
        np.testing.assert_allclose((y[1, 1], x[1, 1]), 4, atol=1e-3)
        right = np.array([x[1, 2] - x[1, 1], y[1, 2] - y[1, 1]])
        down = np.array([x[2, 1] - x[1, 1], y[2, 1] - y[1, 1]])
        assert np.hypot(*right) == pytest.approx(1, abs=2e-3) and np.hypot(*down) == pytest.approx(1, abs=2e-3)
        assert right @ down == pytest.approx(0, abs=2e-3)
        angles.append(np.degrees(np.arctan2(-down[0], down[1])))
    assert 17 < np.abs(angles).max() <= 20.01 and np.std(angles) > 5


def test_the_same_image_is_changed_differently_in_every_epoch():
    first, second = batches(0, 2, batch_size=COUNT, augmentation=ALL_KINDS)
    a, b = (x[np.argsort(y)] for x, y in (first, second))
    assert (np.abs(a - b).max(axis=(1, 2, 3)) > 1e-3).all()


# -- Encoded images ----------------------------------------------------------------------------------------------


def encoded_batches(encoded, start, stop, augmentation=NONE, context=None, batch_size=8):
    made = training_batches(encoded, 16, batch_size, 5, start, stop, augmentation, context)
    return [(x.numpy(), y.numpy()) for x, y in made]


PHOTOS = Augmentation(crop_area=0.2, flip=True, brightness=0.1, saturation=0.5)


@pytest.mark.parametrize("augmentation", [NONE, PHOTOS, Augmentation(shift=0.1, rotation=9.0)])
def test_encoded_batches_depend_on_the_seed_and_their_step_alone(encoded, augmentation):
    whole = encoded_batches(encoded, 0, 5, augmentation)
    assert [x.shape for x, _ in whole] == [(8, 16, 16, 3)] * 5
    assert_equal_batches(encoded_batches(encoded, 3, 5, augmentation), whole[3:])


def test_encoded_epochs_are_permutations_and_the_images_follow_their_labels(encoded, files):
    some = encoded_batches(encoded, 0, 6)
    labels = np.concatenate([y for _, y in some])[:48].reshape(4, 12)
    np.testing.assert_array_equal(np.sort(labels, axis=1), np.tile(np.arange(12), (4, 1)))
    assert len({tuple(row) for row in labels.tolist()}) == 4
    for x, y in some[:2]:
        for image, label in zip(x, y, strict=True):
            whole = tf.image.decode_image(files[label][0], expand_animations=False).numpy()
            side = min(whole.shape[:2])
            top, left = (n - side >> 1 for n in whole.shape[:2])
            square = np.float32(whole[top : top + side, left : left + side])
            expected = (tf.image.resize(square, (16, 16), antialias=True) - 128.0) / 128.0
            np.testing.assert_allclose(image, expected, atol=1e-5)


def test_the_shares_of_encoded_batches_are_the_batch_of_one_device(encoded):
    whole = encoded_batches(encoded, 2, 5)
    shares = [encoded_batches(encoded, 2, 5, context=tf.distribute.InputContext(2, worker, 4)) for worker in range(2)]
    for step, (x, y) in enumerate(whole):
        parts = [share[2 * step + i] for share in shares for i in range(2)]
        np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), x)
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), y)


def test_random_crops_of_arrays_read_the_pixels_of_their_boxes():
    size, augmentation = 40, Augmentation(crop_area=0.1)
    pixel = np.stack(np.mgrid[:size, :size], axis=-1) * 6  # its row and its column, in two channels
    arrays = np.tile(np.uint8(pixel), (50, 1, 1, 1)), np.arange(50, dtype=np.int32)
    ((x, _),) = batches(0, 1, resolution=20, batch_size=50, augmentation=augmentation, arrays=arrays)
    rows, columns = np.moveaxis((x * 128 + 128) / 6, -1, 0)
    sizes = (tf.fill((50,), size), tf.fill((50,), size))
    top, left, height, width = crop_boxes(*sizes, augmentation, tf.constant([3, 0], tf.int64)).numpy().T
    np.testing.assert_allclose(rows[:, 10, 10] - rows[:, 9, 10], height / 20, atol=0.01)
    np.testing.assert_allclose(columns[:, 10, 10] - columns[:, 10, 9], width / 20, atol=0.01)
    np.testing.assert_allclose(rows[:, 9:11, 5].mean(axis=1), top + (height - 1) / 2, atol=0.01)
    np.testing.assert_allclose(columns[:, 5, 9:11].mean(axis=1), left + (width - 1) / 2, atol=0.01)
