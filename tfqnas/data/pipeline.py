"""Training batches that can start at any step.

A batch is a pure function of the seed and its step. A resumed run therefore sees the same batches as if it had not been
killed, and no state of the input is saved.
"""

from collections.abc import Callable

import tensorflow as tf

from tfqnas.data.augment import Augmentation, crop_boxes, cropped_and_moved, recoloured
from tfqnas.data.image_files import Picture
from tfqnas.data.images import PARALLEL, READ, decode_cropped, normalize, read_files
from tfqnas.data.splits import Arrays, Encoded, Split


def training_batches(
    split: Split,
    resolution: int,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    augmentation: Augmentation,
    context: tf.distribute.InputContext | None = None,
    decode: Callable[..., tf.Tensor] | None = None,
) -> tf.data.Dataset:
    """Batches of the steps from `start` to before `stop` in an endless, seeded sequence of epochs.

    Args:
        split: `Arrays` or `Encoded`.
        resolution: height and width of the images.
        batch_size: images per step over all replicas.
        seed: int.
        start, stop: first step, and the step after the last.
        augmentation: `Augmentation`.
        context: `tf.distribute.InputContext`, which gives batches for this worker's replicas in turn.
        decode: decoder of encoded images, by default `decode_cropped`; benchmarks replace it.

    Returns:
        `tf.data.Dataset` of float32 (batch, resolution, resolution, channels) and int32 (batch,).
    """
    replicas = context.num_replicas_in_sync if context else 1
    workers = context.num_input_pipelines if context else 1
    worker = context.input_pipeline_id if context else 0
    share, local = batch_size // replicas, replicas // workers
    order = _Order(len(split), seed)
    # A worker reads the batches of its own replicas, `local` batches per step one after another.
    firsts = tf.data.Dataset.range(start * local, stop * local).map(
        lambda i: (i // local) * batch_size + (worker * local + i % local) * share
    )
    of_batch = (order, firsts, share, resolution, augmentation)
    if isinstance(split, Arrays):
        return _from_arrays(split, *of_batch).prefetch(4)
    return _from_files(split, *of_batch, decode or decode_cropped).prefetch(4)


class _Order:
    """A permutation of each epoch, computed element by element without a shuffle buffer and without state."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, tf.constant(seed, tf.int64)

    def numbers(self, positions: tf.Tensor) -> tf.Tensor:
        """int64 (n,): the numbers of the images at these positions of the endless sequence of epochs."""
        epoch = positions // self.count
        seeds = tf.stack([tf.fill(tf.shape(positions), self.seed), epoch, epoch], axis=1)
        # The raw operator is used since its wrapper index_shuffle pads a list of seeds along the wrong axis.
        return tf.raw_ops.RandomIndexShuffle(index=positions % self.count, seed=seeds, max_index=self.count - 1)

    def seed_at(self, position: tf.Tensor) -> tf.Tensor:
        return tf.stack([self.seed, position])


def _from_arrays(
    split: Arrays, order: _Order, firsts: tf.data.Dataset, share: int, resolution: int, augmentation: Augmentation
) -> tf.data.Dataset:
    images, labels = tf.constant(split.images), tf.constant(split.labels, tf.int32)
    heights, widths = (tf.fill((share,), size) for size in split.images.shape[1:3])

    def batch(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = first + tf.range(share, dtype=tf.int64)
        numbers = order.numbers(positions)
        x = tf.cast(tf.gather(images, numbers), tf.float32)
        seed = order.seed_at(first)
        boxes = crop_boxes(heights, widths, augmentation, seed)
        x = cropped_and_moved(x, boxes, resolution, augmentation, seed)
        return normalize(recoloured(x, augmentation, seed)), tf.gather(labels, numbers)

    return firsts.map(batch, num_parallel_calls=1, deterministic=True)


def _from_files(
    split: Encoded,
    order: _Order,
    firsts: tf.data.Dataset,
    share: int,
    resolution: int,
    augmentation: Augmentation,
    decode: Callable[..., tf.Tensor],
) -> tf.data.Dataset:
    def one(example: tuple[Picture, tf.Tensor], position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        picture, label = example

        def box_of(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
            return crop_boxes(height[tf.newaxis], width[tf.newaxis], augmentation, order.seed_at(position))[0]

        return decode(picture, box_of, resolution, split.channels), label, position

    whole = tf.constant([[0, 0, resolution, resolution]] * share)

    def batch(x: tf.Tensor, labels: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.ensure_shape(x, (share, resolution, resolution, split.channels))
        seed = order.seed_at(positions[0])
        if augmentation.moves:
            x = cropped_and_moved(x, whole, resolution, augmentation, seed)
        elif augmentation.flip:
            mirrored = tf.random.stateless_uniform((share, 1, 1, 1), seed) < 0.5
            x = tf.where(mirrored, tf.reverse(x, [2]), x)
        return normalize(recoloured(x, augmentation, seed)), tf.ensure_shape(labels, (share,))

    # Positions are a flat sequence, so that files of the next batches are read and decoded ahead.
    positions = firsts.flat_map(lambda first: tf.data.Dataset.range(first, first + share))
    numbers = positions.batch(READ).map(order.numbers).unbatch()
    images = tf.data.Dataset.zip(read_files(split, numbers), positions).map(one, **PARALLEL)
    return images.batch(share, drop_remainder=True).map(batch, **PARALLEL)
