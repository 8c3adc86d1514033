"""TFDS' own mock serves random images shaped like those of a data set; nothing is downloaded."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.data.augment import Augmentation
from tfqnas.data.data_config import DataConfig
from tfqnas.data.dataset import load
from tfqnas.data.images import EvaluationImages
from tfqnas.data.pipeline import training_batches
from tfqnas.data.splits import Arrays, Encoded
from tfqnas.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@contextlib.contextmanager
def mocked(examples):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=examples):
        yield


def config(tmp_path, name, **settings):
    return DataConfig(dataset=name, data_dir=str(tmp_path), **settings)


@pytest.mark.parametrize(("name", "size"), [("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))])
def test_small_images_of_one_size_are_held_in_memory(tmp_path, name, size):
    with mocked(30):
        data = load(config(tmp_path, name), held_out=10)
    assert isinstance(data.train, Arrays) and data.train.images.shape == (20, *size)
    assert (data.num_classes, data.channels, data.image_size) == (10, size[-1], size[:2])
    assert len(data.held_out) == 10 and len(data.test) == 30 and data.train.labels.dtype == np.int32


def test_imagenet_is_read_encoded_and_cropped_while_it_is_decoded(tmp_path):
    with mocked(24):
        data = load(config(tmp_path, "imagenet2012", test_split="validation"), held_out=4)
        assert isinstance(data.train, Encoded) and (data.num_classes, data.channels) == (1000, 3)
        assert data.class_names[0] == "n01440764" and len(data.train) == 20 and len(data.test) == 24
        file, label = data.train.read(data.train.numbers[0])
        assert file[:2] == b"\xff\xd8" and 0 <= label < 1000  # a JPEG
        augmentation = Augmentation(crop_area=0.08, flip=True, brightness=32 / 255, saturation=0.5)
        (x, y), (other, _) = training_batches(data.train, 32, 8, 0, 0, 2, augmentation)
        assert x.shape == (8, 32, 32, 3) and x.dtype == tf.float32 and y.dtype == tf.int32
        assert -1 <= np.min(x) < np.max(x) < 1 and not np.array_equal(x, other)
        known = {data.train.read(n)[1] for n in data.train.numbers}
        assert set(y.numpy().tolist()) <= known
        images = EvaluationImages(data.held_out, 32, 0.875)
        assert [batch.shape for batch in images.batches(4)] == [(4, 32, 32, 3)] and len(images.labels) == 4


# -- Data sets on disk -------------------------------------------------------------------------------------------


@functools.cache
def photos_class():
    import tensorflow_datasets as tfds

    class Photos(tfds.core.GeneratorBasedBuilder):
        """Photos of several sizes, labelled by their number."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=40)}
            )
            return self.dataset_info_from_configs(features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, 30), "test": self._generate_examples(30, 40)}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield i, {"image": np.full((20 + i % 3, 30, 3), i, np.uint8), "label": i}

    return Photos


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    photos_class()(data_dir=directory, file_format=request.param).download_and_prepare()
    return directory


def test_images_of_several_sizes_are_read_by_number_from_either_format(prepared):
    data = load(config(prepared, "photos"), held_out=5)
    assert isinstance(data.train, Encoded) and data.image_size == (21, 30)
    assert len(data.train) == 25 and len(data.test) == 10
    seen = []
    for split in (data.train, data.held_out, data.test):
        files, _, labels = split.examples(np.arange(len(split)))
        assert labels.tolist() == split.labels.tolist()
        for file, label in zip(files, labels, strict=True):
            assert (tf.io.decode_image(file).numpy() == label).all()
        seen += labels.tolist()
    assert sorted(seen) == list(range(40))


def test_slices_of_splits_are_taken(prepared):
    data = load(config(prepared, "photos", train_split="train[:50%]", test_split="train[80%:]"), held_out=1)
    assert len(data.train) + len(data.held_out) == 15 and len(data.test) == 6
    assert not set(data.test.labels) & {*data.train.labels, *data.held_out.labels}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_split": "validation"}, "`test_split=validation`: expected a split of photos, which has train, test"),
        ({"train_split": "train[:x]"}, r"`train_split=train\[:x\]`: expected a split of photos"),
    ],
)
def test_splits_that_are_not_there_are_refused(prepared, settings, message):
    with pytest.raises(UserError, match=message):
        load(config(prepared, "photos", **settings), held_out=1)


def test_a_data_set_that_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(UserError, match="is not prepared in .*: run tfqnas prepare-data fashion_mnist"):
        load(config(tmp_path, "fashion_mnist"), held_out=1)


def test_a_data_set_without_one_label_is_refused(tmp_path):
    message = "expected one image and one class label in each example, received .*objects"
    with pytest.raises(UserError, match=message):
        load(config(tmp_path, "coco/2017"), held_out=1)
