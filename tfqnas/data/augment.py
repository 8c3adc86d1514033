"""Random crops, affine maps and colours of training images, as pure functions of images and a seed."""

import dataclasses
import math

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The strength of each random change of a training image.

    Attributes:
        crop_area: smallest fraction of the image's area in the random resized crop (Szegedy et al., 2015); 1 for the
            largest central square.
        crop_aspect: largest aspect ratio of that crop, in either direction.
        shift: largest shift along each axis, as a fraction of the image.
        zoom: largest relative change of size.
        rotation: largest angle in degrees.
        flip: mirror half of the images.
        brightness: largest relative change of all pixels.
        saturation: largest relative change of the distance to grey.
    """

    crop_area: float = 1.0
    crop_aspect: float = 4 / 3
    shift: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    saturation: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether there is an affine map other than crop and flip."""
        return bool(self.shift or self.zoom or self.rotation)


# Number of random crops to try for an image.
ATTEMPTS = 10
# These are combined with the seed, so that crops, affine maps and colours draw from separate streams.
CROPS, COLOURS = 1 << 40, 1 << 41


def crop_boxes(heights: tf.Tensor, widths: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Draws a random crop for each image.

    Area and logarithm of the aspect ratio are uniform, as in torchvision's RandomResizedCrop. The first of ten crops
    that fits into the image is taken, or the largest central square if none fits.

    Args:
        heights, widths: int32 (n,), sizes of the images in pixels.
        augmentation: `Augmentation`.
        seed: int64 (2,).

    Returns:
        int32 (n, 4): top, left, height, width.
    """
    sides = tf.minimum(heights, widths)
    middle = tf.stack([(heights - sides) // 2, (widths - sides) // 2, sides, sides], axis=1)
    if augmentation.crop_area >= 1.0:
        return middle
    random = tf.random.stateless_uniform((4, ATTEMPTS, tf.size(heights)), seed ^ CROPS)
    area = tf.cast(heights * widths, tf.float32) * (augmentation.crop_area + random[0] * (1 - augmentation.crop_area))
    aspect = tf.exp((2 * random[1] - 1) * math.log(augmentation.crop_aspect))
    tall = tf.cast(tf.round(tf.sqrt(area / aspect)), tf.int32)
    wide = tf.cast(tf.round(tf.sqrt(area * aspect)), tf.int32)
    fits = (tall >= 1) & (wide >= 1) & (tall <= heights) & (wide <= widths)
    top = tf.cast(random[2] * tf.cast(heights - tall + 1, tf.float32), tf.int32)
    left = tf.cast(random[3] * tf.cast(widths - wide + 1, tf.float32), tf.int32)
    first = tf.argmax(fits, axis=0, output_type=tf.int32)
    tried = tf.stack([top, left, tall, wide], axis=2)
    chosen = tf.gather_nd(tried, tf.stack([first, tf.range(tf.size(first))], axis=1))
    return tf.where(tf.reduce_any(fits, axis=0)[:, tf.newaxis], chosen, middle)


def cropped_and_moved(
    images: tf.Tensor, boxes: tf.Tensor, resolution: int, augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """Crops, shifts, rotates, mirrors and scales each image by one affine map, bilinear with repeated edges.

    Args:
        images: float32 (n, height, width, channels).
        boxes: int32 (n, 4), from `crop_boxes`.
        resolution: height and width of the result.
        augmentation: `Augmentation`.
        seed: int64 (2,), seed of the batch.

    Returns:
        float32 (n, resolution, resolution, channels).
    """
    n = tf.shape(images)[0]
    top, left, height, width = tf.unstack(tf.cast(boxes, tf.float32), axis=1)
    random = tf.random.stateless_uniform((5, n), seed, -1.0, 1.0)
    angle = random[0] * (augmentation.rotation * np.pi / 180)
    zoom = 1.0 + random[1] * augmentation.zoom
    shift_y, shift_x = random[2] * augmentation.shift * height, random[3] * augmentation.shift * width
    mirror = tf.where(random[4] < 0, -1.0, 1.0) if augmentation.flip else tf.ones((n,))
    # Output pixel (i, j) reads the input at A (i, j) + b, relative to the centres of output and box. Pixel centres lie
    # at halves, as in tf.image.resize.
    scale_y, scale_x = height / resolution * zoom, width / resolution * zoom
    a = [
        mirror * scale_x * tf.cos(angle),
        -scale_y * tf.sin(angle),
        mirror * scale_x * tf.sin(angle),
        scale_y * tf.cos(angle),
    ]
    middle = (resolution - 1) / 2
    b_x = left + (width - 1) / 2 + shift_x - (a[0] + a[1]) * middle
    b_y = top + (height - 1) / 2 + shift_y - (a[2] + a[3]) * middle
    zero = tf.zeros((n,))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a[0], a[1], b_x, a[2], a[3], b_y, zero, zero], axis=1),
        output_shape=(resolution, resolution),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def recoloured(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Changes brightness and saturation of each image by random factors, as torchvision's ColorJitter does.

    Args:
        images: float32 (n, height, width, channels), 0 to 255.
        augmentation: `Augmentation`.
        seed: int64 (2,), seed of the batch.

    Returns:
        The same shape, clipped to 0 to 255.
    """
    if not (augmentation.brightness or augmentation.saturation):
        return images
    random = tf.random.stateless_uniform((2, tf.shape(images)[0], 1, 1, 1), seed ^ COLOURS, -1.0, 1.0)
    images *= 1.0 + random[0] * augmentation.brightness
    if augmentation.saturation and images.shape[-1] == 3:
        grey = tf.image.rgb_to_grayscale(images)
        images = grey + (images - grey) * (1.0 + random[1] * augmentation.saturation)
    return tf.clip_by_value(images, 0.0, 255.0)
