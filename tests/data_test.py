import functools

import numpy as np
import pytest
import tensorflow as tf

from tfqnas import data
from tfqnas.data import Augmentation, resized, training_batches
from tfqnas.errors import UserError

NONE = Augmentation()
ALL_KINDS = Augmentation(shift=0.1, zoom=0.2, rotation=15.0, flip=True)
COUNT = 30


@functools.cache
def numbered(height=8, width=8, channels=1):
    """Images whose label is their number, written into their first pixels' brightness as well."""
    images = np.random.default_rng(7).integers(0, 256, (COUNT, height, width, channels), np.uint8)
    return images, np.arange(COUNT, dtype=np.int32)


def batches(start, stop, resolution=8, batch_size=8, seed=3, augmentation=NONE, context=None, arrays=None):
    made = training_batches(*(arrays or numbered()), resolution, batch_size, seed, start, stop, augmentation, context)
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
        expected = (tf.image.resize(np.float32(images[y]), x.shape[1:3]) - 128.0) / 128.0  # half-pixel centres
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


# -- Evaluation images -------------------------------------------------------------------------------------------


def triangle(size, resolution):
    """The matrix of bilinear resizing with antialiasing along one axis, half-pixel centres, float64."""
    scale = size / resolution
    centres = (np.arange(resolution) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("resolution", [5, 8, 20])
def test_evaluation_images_are_resized_and_stay_on_the_8_bit_grid(resolution):
    images, _ = numbered(channels=3)
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


# -- Data sets ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", held_out=200, seed=0)


def test_digits_have_their_sizes_and_are_scaled_to_bytes(digits):
    import sklearn.datasets

    sizes = {name: len(digits.split(name)[0]) for name in ("train", "held_out", "test")}
    assert sizes == {"train": 1200, "held_out": 200, "test": 397}
    assert (digits.num_classes, digits.channels) == (10, 1) and digits.class_names == tuple("0123456789")
    for name in sizes:
        images, labels = digits.split(name)
        assert images.dtype == np.uint8 and images.shape[1:] == (8, 8, 1) and labels.dtype == np.int32
        assert images.max() == 255 and len(labels) == len(images)
    original = sklearn.datasets.load_digits()
    levels = np.rint(np.arange(17) * 255 / 16)
    expected = sorted(zip(levels[original.data.astype(int)].tolist(), original.target.tolist(), strict=True))
    parts = [digits.split(name) for name in sizes]
    together = [
        (image.ravel().tolist(), label) for images, labels in parts for image, label in zip(images, labels, strict=True)
    ]
    assert sorted(together) == expected  # every digit, with its label, is in one part, once


def test_the_classes_have_equal_shares_in_training_and_test(digits):
    shares = [np.bincount(np.concatenate(labels), minlength=10) / sum(map(len, labels)) for labels in (
        [digits.train_labels, digits.held_out_labels], [digits.test_labels]
    )]  # fmt: skip
    np.testing.assert_allclose(*shares, atol=0.004)


def test_the_seed_chooses_what_is_held_out_and_never_the_test_images(digits):
    again, other = data.load("digits", 200, seed=0), data.load("digits", 200, seed=1)
    np.testing.assert_array_equal(digits.held_out_images, again.held_out_images)
    np.testing.assert_array_equal(digits.train_labels, again.train_labels)
    assert not np.array_equal(digits.held_out_images, other.held_out_images)
    np.testing.assert_array_equal(digits.test_images, other.test_images)


@pytest.mark.parametrize(
    ("name", "held_out", "message"),
    [
        ("cats", 10, r"--dataset: expected one of \['digits'.*\], received 'cats'"),
        ("digits", 1400, "--held_out: expected between 1 and 1399 of the 1400 training images .* received 1400"),
        ("digits", 0, "--held_out: .* received 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused(name, held_out, message):
    with pytest.raises(UserError, match=message):
        data.load(name, held_out)
