"""Training batches that start at any step, and evaluation images at any resolution.

A batch is a pure function of the seed and its step: a run that continues after a kill sees what it would
have seen, and nothing of the input has to be saved.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random affine change of each image.

    Attributes:
        shift: largest shift along each axis, as a share of the image.
        zoom: largest relative change of size.
        rotation: largest angle in degrees.
        flip: mirror half of the images.
    """

    shift: float = 0.0
    zoom: float = 0.0
    rotation: float = 0.0
    flip: bool = False


def normalize(images):
    """`(x - 128) / 128`: the zero point is a whole number, so that it folds into an integer model exactly."""
    return (tf.cast(images, tf.float32) - 128.0) / 128.0


def resized(images, resolution):
    """Evaluation images: resized, on the 8-bit grid as a camera delivers them, normalised.

    Args:
        images: uint8 (n, height, width, channels).
        resolution: height and width to resize to.

    Returns:
        float32 (n, resolution, resolution, channels) in [-1, 1).
    """
    if images.shape[1:3] != (resolution, resolution):
        chunks = (images[i : i + 1024] for i in range(0, len(images), 1024))
        images = tf.concat([_resize_bytes(chunk, resolution) for chunk in chunks], axis=0)
    return normalize(images)


def _resize_bytes(images, resolution):
    images = tf.image.resize(images, (resolution, resolution), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)


def training_batches(images, labels, resolution, batch_size, seed, start, stop, augmentation, context=None):
    """Batches of the steps `start` to `stop` of an endless, seeded sequence of epochs.

    Args:
        images: uint8 (n, height, width, channels). labels: int32 (n,).
        resolution: height and width of the batches.
        batch_size: images a step, over all replicas.
        seed: int. start: first step. stop: one behind the last.
        augmentation: `Augmentation`.
        context: `tf.distribute.InputContext`: batches are then those of this worker's replicas in turn.

    Returns:
        `tf.data.Dataset` of float32 (batch, resolution, resolution, channels) and int32 (batch,).
    """
    replicas = context.num_replicas_in_sync if context else 1
    workers = context.num_input_pipelines if context else 1
    worker = context.input_pipeline_id if context else 0
    local = replicas // workers
    share = batch_size // replicas
    count = len(images)
    images, labels = tf.constant(images), tf.constant(labels, tf.int32)

    def batch(element):
        step, replica = element // local, worker * local + element % local
        first = step * batch_size + replica * share
        positions = first + tf.range(share, dtype=tf.int64)
        epoch = positions // count
        seeds = tf.stack([tf.fill((share,), tf.constant(seed, tf.int64)), epoch, epoch], axis=1)
        # A permutation of each epoch, computed element by element: no shuffle buffer, no state. The raw
        # operator, because its wrapper index_shuffle pads a list of seeds along the wrong axis.
        index = tf.raw_ops.RandomIndexShuffle(index=positions % count, seed=seeds, max_index=count - 1)
        x = tf.cast(tf.gather(images, index), tf.float32)
        x = _augmented(x, resolution, augmentation, tf.stack([tf.constant(seed, tf.int64), first]))
        return normalize(x), tf.gather(labels, index)

    steps = tf.data.Dataset.range(start * local, stop * local)
    return steps.map(batch, num_parallel_calls=1, deterministic=True).prefetch(4)


def _augmented(images, resolution, augmentation, seed):
    """Resizes by one random affine map an image, bilinear, edges repeated."""
    n = tf.shape(images)[0]
    height, width = images.shape[1], images.shape[2]
    random = tf.random.stateless_uniform((5, n), seed, -1.0, 1.0)
    angle = random[0] * (augmentation.rotation * np.pi / 180)
    zoom = 1.0 + random[1] * augmentation.zoom
    shift_y, shift_x = random[2] * augmentation.shift * height, random[3] * augmentation.shift * width
    mirror = tf.where(random[4] < 0, -1.0, 1.0) if augmentation.flip else tf.ones((n,))
    # Output pixel (i, j) reads the input at A (i, j) + b, about the centres of both images, whose pixels'
    # centres lie at halves as in tf.image.resize.
    scale_y, scale_x = height / resolution * zoom, width / resolution * zoom
    a = [mirror * scale_x * tf.cos(angle), -scale_y * tf.sin(angle),
         mirror * scale_x * tf.sin(angle), scale_y * tf.cos(angle)]  # fmt: skip
    middle = (resolution - 1) / 2
    b_x = (width - 1) / 2 + shift_x - (a[0] + a[1]) * middle
    b_y = (height - 1) / 2 + shift_y - (a[2] + a[3]) * middle
    zero = tf.zeros((n,))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a[0], a[1], b_x, a[2], a[3], b_y, zero, zero], axis=1),
        output_shape=(resolution, resolution),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
