"""Loads a labelled image data set in three splits: training, held out for the search, and test."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfqnas.data.data_config import DIGITS, FOLDER, DataConfig
from tfqnas.data.data_record import SPLITS, DataRecord, Image
from tfqnas.data.splits import Arrays, Split
from tfqnas.errors import SettingError, UserError


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set with its splits.

    Attributes:
        name: the name given to `load`.
        class_names: names of the classes, in the order of the labels.
        image_size: (height, width) in pixels; the median for encoded images.
        train, held_out, test: `Arrays` or `Encoded`. Subnets are searched on the held-out images, which come from the
            training set and are never trained on.
        record: `DataRecord`, which tells this data set from another.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    train: Split
    held_out: Split
    test: Split
    record: DataRecord = dataclasses.field(default_factory=DataRecord)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of image channels, 1 or 3."""
        return self.train.channels

    def split(self, name: str) -> Split:
        """The split "train", "held_out" or "test"."""
        return {"train": self.train, "held_out": self.held_out, "test": self.test}[name]

    def fitted(
        self, channels: int, num_classes: int, class_names: Sequence[str] | None, say: Callable[[str], None] = print
    ) -> "DataSet":
        """The data set with its classes in the order of a model's.

        Args:
            channels: number of channels of the model's images.
            num_classes: number of its classes.
            class_names: their names, or None if only the number is known.
            say: called with a line if the order is another.

        Raises:
            UserError: the model takes other images, or has other classes.
        """
        for what, number in (("channels", channels), ("num_classes", num_classes)):
            if (own := getattr(self, what)) != number:
                raise UserError(f"`model`: expects {what.removeprefix('num_')} {number}, {self.name} has {own}")
        if class_names is None or tuple(class_names) == self.class_names:
            return self
        theirs, own = set(class_names), set(self.class_names)
        if theirs != own:
            raise UserError(
                f"`model`: has classes that {self.name} does not have, {listed(theirs - own)}; {self.name} has "
                f"{listed(own - theirs)} instead"
            )
        say(f"{self.name} has the model's classes in another order, so its labels are put into the model's order")
        labels = np.array([class_names.index(name) for name in self.class_names], np.int32)
        splits: dict[str, Any] = {name: self.split(name).relabelled(labels) for name in SPLITS}
        return dataclasses.replace(self, class_names=tuple(class_names), **splits)


def listed(names: Iterable[str]) -> str:
    """Some names for a message, sorted, at most five."""
    known = sorted(names)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def load(
    config: DataConfig,
    held_out: int,
    seed: int = 0,
    say: Callable[[str], None] = print,
    record: DataRecord | None = None,
) -> DataSet:
    """Loads the data set that `config` names.

    The data set is a folder with a sub-folder for each class, a TFDS name, or "digits". The latter are scikit-learn's
    1,797 handwritten digits of 8 x 8 pixels (UCI ML, Alpaydin and Kaynak), 1,400 for training and 397 for testing, with
    the same proportions of the classes.

    Args:
        config: `DataConfig`.
        held_out: number of training images to hold out for the search.
        seed: seed of the choice of held-out images. The test split is always the same.
        say: called with lines for the user about the progress of reading a folder, about skipped images, and about
            images that are not in the record.
        record: the `DataRecord` of a run. The splits of a folder are then those of the record.

    Raises:
        UserError: the data set is missing or cannot be used, no training image would be left, or images of the record
            are missing or have changed.
    """
    if config.source == FOLDER:
        dataset = _of_folder(config, held_out, seed, say, record)
    else:
        dataset = _of_splits(config, held_out, seed)
    if record is not None:
        record.refuse_if_different(dataset.record, config.dataset)
    return dataset


def _of_splits(config: DataConfig, held_out: int, seed: int) -> DataSet:
    """The digits, or a data set of TFDS."""
    name = config.dataset
    parts: tuple[Sequence[str], Sequence[int], Split, Split, dict[str, Any]]
    if config.source == DIGITS:
        parts = _digits()
    else:
        from tfqnas.data import tfds_sets

        parts = tfds_sets.load(name, config)
    class_names, size, train, test, origin = parts
    kept, out = _held_out(name, class_names, len(train), held_out, seed)
    splits = {"train": train.take(kept), "held_out": train.take(out), "test": test}
    return _made(name, class_names, size, splits, config.source, origin)


def _of_folder(
    config: DataConfig, held_out: int, seed: int, say: Callable[[str], None], record: DataRecord | None
) -> DataSet:
    from tfqnas.data import folder

    name = config.dataset
    found = folder.find(pathlib.Path(name).expanduser(), config, say, known=record is not None)
    class_names: Sequence[str] = found.class_names
    if record is None:
        train, test = found.split(config.test_share, say)
        kept, out = _held_out(name, class_names, len(train), held_out, seed)
        files = {"train": [train[i] for i in kept], "held_out": [train[i] for i in out], "test": test}
    else:
        every = [file for part in found.parts.values() for file in part]
        files, class_names = record.images_among(every, class_names, name, say), record.class_names
    size, made = found.images(list(files.values()))
    images = {split: [Image(file.name, file.digest) for file in part] for split, part in files.items()}
    return _made(name, class_names, size, dict(zip(files, made, strict=True)), config.source, {}, images)


def _made(
    name: str,
    class_names: Sequence[str],
    size: Sequence[int],
    splits: Mapping[str, Split],
    source: str,
    origin: dict[str, Any],
    images: dict[str, list[Image]] | None = None,
) -> DataSet:
    height, width = size
    counts = {split: len(part) for split, part in splits.items()}
    channels = splits["train"].channels
    record = DataRecord(source, tuple(class_names), (height, width), channels, counts, origin, images or {})
    return DataSet(name, tuple(class_names), (height, width), **splits, record=record)


def _held_out(
    name: str, class_names: Sequence[str], count: int, held_out: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training images that stay, and of those that are held out."""
    if len(class_names) < 2:
        raise UserError(
            f"`dataset={name}`: expected at least two classes, received {len(class_names)}: "
            f"{', '.join(class_names) or 'none'}"
        )
    if not 0 < held_out < count:
        expected = f"between 1 and {count - 1} of the {count} training images of {name}"
        raise SettingError("held_out", expected, held_out)
    order = np.random.default_rng((seed, 1)).permutation(count)
    return order[held_out:], order[:held_out]


def _digits() -> tuple[list[str], tuple[int, int], Split, Split, dict[str, Any]]:
    import sklearn.datasets
    import sklearn.model_selection

    digits = sklearn.datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    split = Arrays(images, digits.target.astype(np.int32))
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(split)), train_size=1400, stratify=split.labels, random_state=0
    )
    names, origin = (
        [str(name) for name in digits.target_names],
        {"sha256": hashlib.sha256(images.tobytes()).hexdigest()},
    )
    return names, images.shape[1:3], split.take(train), split.take(test), origin
