import numpy as np
import pytest

from tfqnas.data.data_config import DataConfig
from tfqnas.data.dataset import load
from tfqnas.errors import UserError


@pytest.fixture(scope="module")
def digits():
    return load(DataConfig(), held_out=200, seed=0)


def test_digits_have_their_sizes_and_are_scaled_to_bytes(digits):
    import sklearn.datasets

    sizes = {name: len(digits.split(name)) for name in ("train", "held_out", "test")}
    assert sizes == {"train": 1200, "held_out": 200, "test": 397}
    assert (digits.num_classes, digits.channels) == (10, 1) and digits.class_names == tuple("0123456789")
    for name in sizes:
        images, labels = digits.split(name).images, digits.split(name).labels
        assert images.dtype == np.uint8 and images.shape[1:] == (8, 8, 1) and labels.dtype == np.int32
        assert images.max() == 255 and len(labels) == len(images)
    original = sklearn.datasets.load_digits()
    levels = np.rint(np.arange(17) * 255 / 16)
    expected = sorted(zip(levels[original.data.astype(int)].tolist(), original.target.tolist(), strict=True))
    parts = [digits.split(name) for name in sizes]
    together = [
        (image.ravel().tolist(), label) for part in parts for image, label in zip(part.images, part.labels, strict=True)
    ]
    assert sorted(together) == expected  # every digit, with its label, is in one part, once


def test_the_classes_have_equal_shares_in_training_and_test(digits):
    shares = [
        np.bincount(np.concatenate(labels), minlength=10) / sum(map(len, labels))
        for labels in ([digits.train.labels, digits.held_out.labels], [digits.test.labels])
    ]
    np.testing.assert_allclose(*shares, atol=0.004)


def test_the_seed_chooses_what_is_held_out_and_never_the_test_images(digits):
    again, other = load(DataConfig(), 200, seed=0), load(DataConfig(), 200, seed=1)
    np.testing.assert_array_equal(digits.held_out.images, again.held_out.images)
    np.testing.assert_array_equal(digits.train.labels, again.train.labels)
    assert not np.array_equal(digits.held_out.images, other.held_out.images)
    np.testing.assert_array_equal(digits.test.images, other.test.images)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("name", "held_out", "message"),
    [
        ("cifar11", 10, r"dataset: expected digits, a folder, or .* TFDS .*near: cifar10.*received cifar11"),
        ("digits", 1400, "held_out: expected between 1 and 1399 of the 1400 training images .* received 1400"),
        ("digits", 0, "held_out: .* received 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused(name, held_out, message):
    with pytest.raises(UserError, match=message):
        load(DataConfig(dataset=name), held_out)


def test_labels_are_put_into_the_order_of_a_models_classes(digits):
    names = tuple("3120456789")
    said = []
    data = digits.fitted(1, 10, names, said.append)
    assert data.class_names == names and "the model's classes in another order" in said[0]
    for split in ("train", "held_out", "test"):
        before, after = digits.split(split), data.split(split)
        assert after.images is before.images
        assert [names[label] for label in after.labels] == [str(label) for label in before.labels]


def test_encoded_images_get_the_labels_of_a_models_classes_as_well(encoded):
    order = np.roll(np.arange(12, dtype=np.int32), 5)
    for known in (encoded, encoded.take(np.arange(12))):
        moved = known.relabelled(order)
        assert moved.labels.tolist() == order.tolist()
        assert moved.examples(np.array([3, 1]))[2].tolist() == order[[3, 1]].tolist()


@pytest.mark.parametrize(
    ("channels", "number", "names", "message"),
    [
        (3, 10, None, "`model`: expects channels 3, digits has 1"),
        (1, 12, None, "`model`: expects classes 12, digits has 10"),
        (1, 10, [*"012345678", "nine"], "has classes that digits does not have, nine; digits has 9 instead"),
    ],
)
def test_a_model_of_other_images_or_classes_is_refused(channels, number, names, message, digits):
    with pytest.raises(UserError, match=message):
        digits.fitted(channels, number, names)


def test_where_names_are_unknown_or_the_same_nothing_is_changed(digits):
    assert digits.fitted(1, 10, None) is digits.fitted(1, 10, list("0123456789")) is digits
