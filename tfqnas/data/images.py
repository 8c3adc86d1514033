"""Decodes image files, and prepares evaluation images: crop, 8-bit grid, normalisation."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from tfqnas.data.image_files import Picture, content, shown
from tfqnas.data.splits import Arrays, Encoded, Split

# Number of files that one call into Python reads. More files reduce the overhead, but delay the first batch.
READ = 16
# Number of images that are decoded and resized at once if a split is streamed.
CHUNK = 256
PARALLEL = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}


def read_files(split: Encoded, numbers: tf.data.Dataset) -> tf.data.Dataset:
    """The files of an `Encoded` split and their labels, read ahead in parallel.

    Args:
        split: `Encoded`.
        numbers: `tf.data.Dataset` of int64 scalars, the numbers of images in the split, which are read in this order.

    Returns:
        `tf.data.Dataset` of `(Picture, label)`, scalars: string and int32, and int32.
    """

    def read(some: tf.Tensor) -> tuple[Picture, tf.Tensor]:
        found = tf.numpy_function(split.examples, [some], (tf.string, tf.int32, tf.int32))
        files, orientations, labels = (tf.ensure_shape(tensor, (None,)) for tensor in found)
        return Picture(files, orientations), labels

    return numbers.batch(READ).map(read, **PARALLEL).unbatch()


def normalize(images: tf.Tensor | np.ndarray) -> tf.Tensor:
    """`(x - 128) / 128`, float32. The mean is a whole number, so that an integer model can represent zero exactly."""
    return (tf.cast(images, tf.float32) - 128.0) / 128.0


def decode(picture: Picture, channels: int) -> tf.Tensor:
    """Decodes a `Picture` to uint8 (height, width, channels), upright."""
    image = tf.io.decode_image(picture.file, channels=channels, expand_animations=False)
    return turned(tf.ensure_shape(image, (None, None, channels)), picture.orientation)


def read_image(path: str | pathlib.Path, channels: int) -> np.ndarray:
    """An image file as uint8 (height, width, channels), with the values that training and evaluation see.

    Raises:
        OSError: the file cannot be read. ValueError: it is not an image that can be decoded.
    """
    return decoded(content(path), channels)


def decoded(data: bytes, channels: int) -> np.ndarray:
    """The content of an image file as uint8 (height, width, channels); raises `ValueError` with the reason."""
    try:
        return decode(shown(data, channels), channels).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"not an image that can be decoded{_reason(error)}") from None


def _reason(error: tf.errors.OpError) -> str:
    """The informative part of TensorFlow's message, in parentheses."""
    text = (error.message or "").split("[Op:")[0].split("{{")[0].strip()
    return f" ({text.splitlines()[0][:120]})" if text else ""


def turned(image: tf.Tensor, orientation: tf.Tensor | int) -> tf.Tensor:
    """An image (height, width, channels) that was stored with an orientation of EXIF, upright."""

    def upright() -> tf.Tensor:
        swaps, flips = _turn(orientation)
        swapped = tf.cond(swaps, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        return tf.raw_ops.Reverse(tensor=swapped, dims=tf.concat([flips, [False]], 0))

    result = tf.cond(tf.equal(orientation, 1), lambda: image, upright)
    return tf.ensure_shape(result, (None, None, image.shape[-1]))


def _turn(orientation: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether rows and columns swap, bool scalar, and then whether each of both is reversed, bool (2,)."""
    rows, columns = ([3, 4, 7, 8], [2, 3, 6, 7])
    flips = tf.stack([tf.reduce_any(tf.equal(orientation, which)) for which in (rows, columns)])
    return tf.greater_equal(orientation, 5), flips


def decode_cropped(
    picture: Picture, box_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], resolution: int, channels: int
) -> tf.Tensor:
    """Decodes a part of an image and scales it. Only this part of a JPEG is decoded.

    Args:
        picture: `Picture`.
        box_of: function of height and width, int32 scalars, that returns the part, int32 (4,): top, left, height,
            width, all in the upright image.
        resolution: height and width of the result.
        channels: 1 or 3.

    Returns:
        float32 (resolution, resolution, channels), 0 to 255, resized with antialiasing.
    """

    def of_jpeg() -> tf.Tensor:
        swaps, flips = _turn(picture.orientation)
        stored = tf.io.extract_jpeg_shape(picture.file)[:2]
        size = tf.where(swaps, stored[::-1], stored)
        box = tf.reshape(box_of(size[0], size[1]), (2, 2))  # the corner, then the size
        corner = tf.where(flips, size - box[0] - box[1], box[0])
        box = tf.stack([corner, box[1]])
        box = tf.reshape(tf.where(swaps, box[:, ::-1], box), (4,))
        part = tf.image.decode_and_crop_jpeg(picture.file, box, channels=channels)
        return turned(part, picture.orientation)

    part = tf.cond(tf.io.is_jpeg(picture.file), of_jpeg, lambda: _part(decode(picture, channels), box_of))
    return _at(part, resolution, channels)


def decode_then_crop(
    picture: Picture, box_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], resolution: int, channels: int
) -> tf.Tensor:
    """The same result from the fully decoded image, with which tests and benchmarks compare `decode_cropped`."""
    return _at(_part(decode(picture, channels), box_of), resolution, channels)


def _part(image: tf.Tensor, box_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    box = box_of(*tf.unstack(tf.shape(image)[:2]))
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]


def _at(image: tf.Tensor, resolution: int, channels: int) -> tf.Tensor:
    resized = tf.image.resize(image, (resolution, resolution), antialias=True)
    return tf.ensure_shape(resized, (resolution, resolution, channels))


def evaluation_image(image: tf.Tensor | np.ndarray, resolution: int, crop: float) -> tf.Tensor:
    """Prepares test images for scoring: scales them, crops the centre, and rounds to 8 bits as a camera does.

    Args:
        image: uint8 (height, width, channels), or a batch of images of equal size.
        resolution: height and width of the result.
        crop: fraction of the shorter side that is kept. The shorter side is first scaled to `ceil(resolution / crop)`.

    Returns:
        uint8 (resolution, resolution, channels), or a batch.
    """
    side = math.ceil(resolution / crop - 1e-9)
    height, width = tf.shape(image)[-3], tf.shape(image)[-2]
    shorter = tf.minimum(height, width)
    size = tf.stack([height * side // shorter, width * side // shorter])  # as torchvision's Resize
    scaled = tf.cond(
        tf.equal(shorter, side),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.image.resize(image, size, antialias=True),
    )
    top, left = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    cut = scaled[..., top : top + resolution, left : left + resolution, :]
    return tf.cast(tf.clip_by_value(tf.round(cut), 0, 255), tf.uint8)


def resized(images: np.ndarray, resolution: int, crop: float = 1.0) -> tf.Tensor:
    """Normalised evaluation images.

    Args:
        images: uint8 (n, height, width, channels).
        resolution, crop: as in `evaluation_image`.

    Returns:
        float32 (n, resolution, resolution, channels) in [-1, 1).
    """
    return normalize(_resized_bytes(images, resolution, crop))


def _resized_bytes(images: np.ndarray, resolution: int, crop: float) -> np.ndarray:
    if images.shape[1:3] == (resolution, resolution) and crop == 1.0:
        return images
    chunks = (images[i : i + 1024] for i in range(0, len(images), 1024))
    return np.concatenate([evaluation_image(chunk, resolution, crop) for chunk in chunks])


class EvaluationImages:
    """The images of a split at one resolution, in order, for scoring.

    Args:
        split: `Arrays` or `Encoded`.
        resolution, crop: as in `evaluation_image`.
        memory: bytes that the images may take; a larger split is decoded again in each pass.

    Attributes:
        nbytes: bytes of memory that they take.
    """

    def __init__(self, split: Split, resolution: int, crop: float = 1.0, memory: float = math.inf) -> None:
        self._split, self._resolution, self._crop = split, resolution, crop
        self._pixels = None
        if isinstance(split, Arrays):
            self._pixels = _resized_bytes(split.images, resolution, crop)
        elif len(split) * resolution**2 * split.channels <= memory:
            self._pixels = np.concatenate(list(self._decoded()))
        self.nbytes = 0 if self._pixels is None else self._pixels.nbytes

    def __len__(self) -> int:
        return len(self._split)

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,), the labels of the images."""
        return self._split.labels

    def batches(self, size: int) -> Iterator[tf.Tensor]:
        """Normalised images, float32 (size, resolution, resolution, channels); the last batch may be smaller."""
        if self._pixels is not None:
            for i in range(0, len(self), size):
                yield normalize(self._pixels[i : i + size])
            return
        kept = np.zeros((0, self._resolution, self._resolution, self._split.channels), np.uint8)
        for chunk in self._decoded():
            kept = np.concatenate([kept, chunk])
            while len(kept) >= size:
                yield normalize(kept[:size])
                kept = kept[size:]
        if len(kept):
            yield normalize(kept)

    def _decoded(self) -> Iterator[np.ndarray]:
        """uint8 chunks of the split, decoded in parallel."""
        split = self._split
        assert isinstance(split, Encoded)

        def one(picture: Picture, _: tf.Tensor) -> tf.Tensor:
            return evaluation_image(decode(picture, split.channels), self._resolution, self._crop)

        images = read_files(split, tf.data.Dataset.range(len(self))).map(one, **PARALLEL)
        return images.batch(CHUNK).prefetch(1).as_numpy_iterator()


def batches_of(images: EvaluationImages | np.ndarray, size: int) -> Iterable[tf.Tensor | np.ndarray]:
    """Batches of normalised images, from `EvaluationImages` or float32 (n, height, width, channels)."""
    if hasattr(images, "batches"):
        return images.batches(size)
    return (images[i : i + size] for i in range(0, len(images), size))
