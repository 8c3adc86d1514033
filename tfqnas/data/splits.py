"""Splits of a data set: labelled images by number, as pixels in memory or as encoded files."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tfqnas.data.image_files import shown


class Arrays:
    """Images of equal size in memory.

    Args:
        images: uint8 (n, height, width, channels).
        labels: int32 (n,).
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels
        self.channels = images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: np.ndarray) -> "Arrays":
        """The split of the images with these numbers, int (n,), in their order."""
        return Arrays(self.images[numbers], self.labels[numbers])

    def relabelled(self, labels: np.ndarray) -> "Arrays":
        """The split in which class `c` has the label `labels[c]`, int32 (classes,)."""
        return Arrays(self.images, labels[self.labels])


class Encoded:
    """Image files of any size, which are read when they are used.

    Args:
        read: `read(number) -> (bytes, label)`; several threads may call it.
        numbers: int64 (n,), the numbers of the examples in this split, in order.
        channels: number of channels to decode to, 1 or 3.
        labels: int32 (n,), if they are known without reading the examples.
    """

    def __init__(
        self,
        read: Callable[[int], tuple[bytes, int]],
        numbers: ArrayLike,
        channels: int,
        labels: np.ndarray | None = None,
    ) -> None:
        self.read, self.numbers, self.channels = read, np.asarray(numbers, np.int64), channels
        self._labels = labels

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, numbers: np.ndarray) -> "Encoded":
        """The split of the images with these numbers, int (n,), in their order."""
        labels = None if self._labels is None else self._labels[numbers]
        return Encoded(self.read, self.numbers[numbers], self.channels, labels)

    def relabelled(self, labels: np.ndarray) -> "Encoded":
        """The split in which class `c` has the label `labels[c]`, int32 (classes,)."""

        def read(number: int) -> tuple[bytes, int]:
            data, label = self.read(number)
            return data, int(labels[label])

        return Encoded(read, self.numbers, self.channels, None if self._labels is None else labels[self._labels])

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,), the labels. If they are stored with the images, all examples are read but not decoded."""
        if self._labels is None:
            self._labels = np.array([self.read(number)[1] for number in self.numbers], np.int32)
        return self._labels

    def examples(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(files, orientations, labels)` of the images at these positions, each as a `Picture` has them.

        Shapes and types are (n,): an object array of bytes, int32, int32.
        """
        pairs = [self.read(number) for number in self.numbers[positions]]
        pictures = [shown(data, self.channels) for data, _ in pairs]
        return (
            np.array([picture.file for picture in pictures], object),
            np.array([picture.orientation for picture in pictures], np.int32),
            np.array([label for _, label in pairs], np.int32),
        )


Split = Arrays | Encoded
