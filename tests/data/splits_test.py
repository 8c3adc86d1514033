import numpy as np

from tfqnas.data.splits import Arrays, Encoded


def test_a_part_of_a_split_has_its_images_and_labels_in_the_order_asked_for(files, encoded):
    part = encoded.take(np.array([4, 1, 7])).take(np.array([2, 0]))
    assert len(part) == 2 and part.labels.tolist() == [7, 4] and part.channels == 3
    data, orientations, labels = part.examples(np.array([1, 0]))
    assert list(data) == [files[4][0], files[7][0]] and labels.tolist() == [4, 7] and orientations.tolist() == [1, 1]
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
    part = Arrays(images, np.arange(5, dtype=np.int32)).take(np.array([3, 0]))
    assert part.labels.tolist() == [3, 0] and np.array_equal(part.images, images[[3, 0]])


def test_known_labels_are_not_read():
    def read(number):
        raise AssertionError("read")

    split = Encoded(read, np.arange(3), 1, np.array([2, 1, 0], np.int32))
    assert split.take(np.array([2, 1])).labels.tolist() == [0, 1]
