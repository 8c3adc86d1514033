"""Loads a labelled image data set in three splits: training, held out for the search, and test."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from tfqnas.data.data_config import DIGITS, FOLDER, DataConfig
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
    """

    name: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    train: Split
    held_out: Split
    test: Split

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


def load(config: DataConfig, held_out: int, seed: int = 0, say: Callable[[str], None] = print) -> DataSet:
    """Loads the data set that `config` names.

    The data set is a folder with a sub-folder for each class, a TFDS name, or "digits". The latter are scikit-learn's
    1,797 handwritten digits of 8 x 8 pixels (UCI ML, Alpaydin and Kaynak), 1,400 for training and 397 for testing, with
    the same proportions of the classes.

    Args:
        config: `DataConfig`.
        held_out: number of training images to hold out for the search.
        seed: seed of the choice of held-out images. The test split is always the same.
        say: called with lines for the user about the progress of reading a folder, and about skipped images.

    Raises:
        UserError: the data set is missing or cannot be used, or no training image would be left.
    """
    name = config.dataset
    parts: tuple[Sequence[str], Sequence[int], Split, Split]
    if config.source == DIGITS:
        parts = _digits()
    elif config.source == FOLDER:
        from tfqnas.data import folder

        parts = folder.load(pathlib.Path(name).expanduser(), config, say)
    else:
        from tfqnas.data import tfds_sets

        parts = tfds_sets.load(name, config)
    class_names, image_size, train, test = parts
    if len(class_names) < 2:
        raise UserError(
            f"`dataset={name}`: expected at least two classes, received {len(class_names)}: "
            f"{', '.join(class_names) or 'none'}"
        )
    if not 0 < held_out < len(train):
        raise SettingError(
            "held_out", f"between 1 and {len(train) - 1} of the {len(train)} training images of {name}", held_out
        )
    order = np.random.default_rng((seed, 1)).permutation(len(train))
    out, kept = order[:held_out], order[held_out:]
    height, width = image_size
    return DataSet(name, tuple(class_names), (height, width), train.take(kept), train.take(out), test)


def _digits() -> tuple[list[str], tuple[int, int], Arrays, Arrays]:
    import sklearn.datasets
    import sklearn.model_selection

    digits = sklearn.datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    split = Arrays(images, digits.target.astype(np.int32))
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(split)), train_size=1400, stratify=split.labels, random_state=0
    )
    return [str(name) for name in digits.target_names], images.shape[1:3], split.take(train), split.take(test)
