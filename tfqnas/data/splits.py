"""A split of a data set: labelled images by number, as pixels in memory or encoded as files."""

import numpy as np


class Arrays:
    """Images of one size, in memory.

    Args:
        images: uint8 (n, height, width, channels). labels: int32 (n,).
    """

    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.channels = images.shape[-1]

    def __len__(self):
        return len(self.images)

    def take(self, numbers):
        """The split of the images with these numbers, int (n,), in their order."""
        return Arrays(self.images[numbers], self.labels[numbers])


class Encoded:
    """Images of any size as JPEG, PNG or GIF, read when they are used.

    Args:
        read: `read(number) -> (bytes, label)`, safe to call from several threads.
        numbers: int64 (n,), the examples of this split in their order.
        channels: 1 or 3, to decode to.
        labels: int32 (n,), if they are known without reading.
    """

    def __init__(self, read, numbers, channels, labels=None):
        self.read, self.numbers, self.channels = read, np.asarray(numbers, np.int64), channels
        self._labels = labels

    def __len__(self):
        return len(self.numbers)

    def take(self, numbers):
        """The split of the images with these numbers, int (n,), in their order."""
        labels = None if self._labels is None else self._labels[numbers]
        return Encoded(self.read, self.numbers[numbers], self.channels, labels)

    @property
    def labels(self):
        """int32 (n,). Where they are stored beside the images all examples are read, without decoding them."""
        if self._labels is None:
            self._labels = np.array([self.read(number)[1] for number in self.numbers], np.int32)
        return self._labels

    def examples(self, positions):
        """`(files, labels)` of the images at these positions: object (n,) of bytes, and int32 (n,)."""
        pairs = [self.read(number) for number in self.numbers[positions]]
        return np.array([data for data, _ in pairs], object), np.array([label for _, label in pairs], np.int32)
