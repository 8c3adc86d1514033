"""A labelled image data set in memory and its three parts: training, held out for the search, test."""

import dataclasses

import numpy as np

from tfqnas.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Images and labels as arrays.

    Attributes:
        name: as given to `load`.
        class_names: one a class, in the order of the labels.
        train_images, held_out_images, test_images: uint8 (n, height, width, channels). Subnets are searched
            on the held-out images, which come from the training set and are never trained on.
        train_labels, held_out_labels, test_labels: int32 (n,).
    """

    name: str
    class_names: tuple
    train_images: np.ndarray
    train_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def channels(self):
        return self.train_images.shape[-1]

    def split(self, name):
        """Returns `(images, labels)` of "train", "held_out" or "test"."""
        return getattr(self, f"{name}_images"), getattr(self, f"{name}_labels")


def load(name, held_out, seed=0):
    """Loads a data set.

    Args:
        name: "digits", scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (UCI ML, Alpaydin and Kaynak),
            split into 1,400 training and 397 test images with equal shares of the classes.
        held_out: how many training images to hold out for the search.
        seed: of the choice of the held-out images. The test split is always the same.

    Raises:
        UserError: for an unknown name, or where no training image would be left.
    """
    if name not in _LOADERS:
        raise UserError(f"--dataset: expected one of {sorted(_LOADERS)}, received {name!r}")
    class_names, (images, labels), (test_images, test_labels) = _LOADERS[name]()
    if not 0 < held_out < len(images):
        raise UserError(
            f"--held_out: expected between 1 and {len(images) - 1} of the {len(images)} training images of "
            f"{name}, received {held_out}"
        )
    order = np.random.default_rng((seed, 1)).permutation(len(images))
    out, kept = order[:held_out], order[held_out:]
    return DataSet(
        name, class_names, images[kept], labels[kept], images[out], labels[out], test_images, test_labels
    )


def _digits():
    import sklearn.datasets
    import sklearn.model_selection

    digits = sklearn.datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(labels)), train_size=1400, stratify=labels, random_state=0
    )
    class_names = tuple(str(name) for name in digits.target_names)
    return class_names, (images[train], labels[train]), (images[test], labels[test])


_LOADERS = {"digits": _digits}
