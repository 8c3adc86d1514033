"""Loads data sets that TensorFlow Datasets (TFDS) has prepared."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.data.data_config import DataConfig
from tfqnas.data.image_files import facts
from tfqnas.data.records import TFRecords
from tfqnas.data.splits import Arrays, Encoded, Split
from tfqnas.errors import SettingError, UserError

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

# Images of equal size are held in memory if they take fewer bytes than this.
IN_MEMORY = 2e9


def builder(name: str, data_dir: str, what: str = "dataset") -> tfds.core.DatasetBuilder:
    """The TFDS builder of a data set; `what` is the setting that gave the name, for messages.

    Raises:
        UserError: TFDS does not know the name. The message suggests similar names.
    """
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns about every directory that is not prepared
    try:
        return tfds.builder(name, data_dir=data_dir or None)
    except (ValueError, AssertionError) as error:  # also for an unknown name
        known = tfds.list_builders(with_community_datasets=False)
        if name.split("/")[0].split(":")[0] in known:
            raise UserError(f"`{what}={name}`: {error}") from None
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" (near: {', '.join(near)})" if near else ""
        also = "digits, a folder, or " if what == "dataset" else ""
        raise SettingError(what, f"{also}the name of a TFDS data set{hint}", name) from None


def load(name: str, config: DataConfig) -> tuple[Sequence[str], Sequence[int], Split, Split, dict[str, Any]]:
    """Loads the splits of a prepared data set.

    Args:
        name: name in TFDS: `name`, `name/config` or `name:version`.
        config: `DataConfig`.

    Returns:
        `(class names, (height, width), training split, test split, origin)`; the origin tells these data from others,
        as JSON data.

    Raises:
        UserError: the data set is not prepared, or has no labelled images, or does not have the splits.
    """
    made = builder(name, config.data_dir)
    image, label = image_and_label(made.info.features, name)
    size = made.info.features[image].shape
    if size[-1] not in (1, 3):
        raise UserError(f"`dataset={name}`: expected images with 1 or 3 channels, received {size[-1]}")
    test = config.test_split or _test_split(made, name)
    splits = [
        _split(made, split, image, label, name, field)
        for split, field in ((config.train_split, "train_split"), (test, "test_split"))
    ]
    if None in size and isinstance(splits[0], Encoded):
        size = _median_size(splits[0])
    origin = {
        "tfds": made.info.full_name,
        "splits": {split: len(part) for split, part in zip((config.train_split, test), splits, strict=True)},
        "bytes": int(made.info.dataset_size),
    }
    return made.info.features[label].names, size[:2], *splits, origin


def image_and_label(features: Mapping[str, Any], name: str, what: str = "dataset") -> tuple[str, str]:
    """The names of the image and the class label in a data set's examples; `what` is as in `builder`.

    Raises:
        UserError: the examples do not have exactly one of each.
    """
    import tensorflow_datasets as tfds

    kinds: dict[type, list[str]] = {tfds.features.Image: [], tfds.features.ClassLabel: []}
    for key, feature in features.items():
        for kind, found in kinds.items():
            if isinstance(feature, kind):
                found.append(key)
    images, labels = kinds.values()
    for wanted in ("image", "label"):  # of several, take the one with the usual name
        for found in (images, labels):
            if wanted in found:
                found[:] = [wanted]
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"`{what}={name}`: expected one image and one class label in each example, received "
            f"{', '.join(f'{key} ({type(feature).__name__})' for key, feature in features.items())}"
        )
    return images[0], labels[0]


def _test_split(made: tfds.core.DatasetBuilder, name: str) -> str:
    splits = list(made.info.splits)
    for wanted in ("test", "validation"):
        if wanted in splits or not splits:  # TFDS' mock has no split names
            return wanted
    raise UserError(
        f"`dataset={name}`: has no test split, only {', '.join(splits)}: give `test_split='train[80%:]'` and "
        "`train_split='train[:80%]'`"
    )


def _split(made: tfds.core.DatasetBuilder, split: str, image: str, label: str, name: str, field: str) -> Split:
    import tensorflow_datasets as tfds

    try:
        shape = made.info.features[image].shape
        count = made.info.splits[split].num_examples if made.info.splits else 0
        if None not in shape and count * np.prod(shape) < IN_MEMORY:
            result: Split = _arrays(made.as_dataset(split=split), image, label)
        else:
            result = _encoded(made, split, image, label, shape[-1])
    except AssertionError:
        raise UserError(
            f"`dataset={name}`: is not prepared in {made.data_dir}: run tfqnas prepare-data {name}, or give the "
            "`data_dir` that has it"
        ) from None
    except (ValueError, KeyError) as error:
        have = ", ".join(made.info.splits)
        raise UserError(f"`{field}={split}`: expected a split of {name}, which has {have} ({error})") from None
    labels = result.labels if isinstance(result, Arrays) else np.array([result.read(0)[1]])
    if len(labels) and labels.min() < 0:
        raise UserError(
            f"`{field}={split}`: expected a split with labels, those of {name} {split} are hidden "
            f"({tfds.__name__} gives {labels.min()}); it has {', '.join(made.info.splits)}"
        )
    return result


def _arrays(dataset: tf.data.Dataset, image: str, label: str) -> Arrays:
    batches = [(b[image], b[label]) for b in dataset.batch(1024).as_numpy_iterator()]
    images, labels = zip(*batches, strict=True)
    return Arrays(np.concatenate(images), np.concatenate(labels).astype(np.int32))


def _encoded(made: tfds.core.DatasetBuilder, split: str, image: str, label: str, channels: int) -> Encoded:
    """Examples by number, with encoded images (TFDS' SkipDecoding)."""
    import tensorflow_datasets as tfds

    decoders = {image: tfds.decode.SkipDecoding()}
    try:
        source = made.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:  # TFDS reads TFRecord files only in order; we read them by number
        files = made.info.splits[split].file_instructions
        source = _Deserialized(
            TFRecords((f.filename, f.skip, f.take) for f in files),
            lambda record: made.info.features.deserialize_example_np(record, decoders=decoders),
        )

    def read(number: int) -> tuple[bytes, int]:
        example = source[int(number)]
        return example[image], int(example[label])

    return Encoded(read, np.arange(len(source)), channels)


class _Deserialized:
    def __init__(self, records: TFRecords, deserialize: Callable[[bytes], dict[str, Any]]) -> None:
        self._records, self._deserialize = records, deserialize

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._deserialize(self._records[number])


def _median_size(split: Encoded) -> tuple[int, ...]:
    """The median size of some evenly spread images."""
    some = np.unique(np.linspace(0, len(split) - 1, 25).astype(int))
    shapes = [facts(split.read(split.numbers[i])[0])[:2] for i in some]
    return tuple(int(n) for n in np.median(shapes, axis=0))
