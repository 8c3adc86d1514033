"""Recalibrates BatchNorm for a subnet, and computes its logits and accuracy."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfqnas.data.images import EvaluationImages, batches_of
from tfqnas.errors import NotFiniteError
from tfqnas.supernet import Supernet
from tfqnas.train.subnet_net import SubnetNet


def recalibrate(
    supernet: Supernet, code: tf.Tensor | np.ndarray, images: EvaluationImages | np.ndarray, batch_size: int = 128
) -> list[np.ndarray]:
    """Estimates the statistics of a subnet's BatchNorms and quantizers (OQA, section 3.4; Yu and Huang, 2019).

    Each batch is normalised by its own statistics. The mean of a BatchNorm is the mean of the batches' means, and its
    variance the mean of their variances plus the variance of their means. Ranges of quantizers are averaged. All
    batches have the same size; images that do not fill the last batch are left out.

    Args:
        supernet: `Supernet`, or another object with `batch_statistics` and `observers`.
        code: int32 (n,), from `space.encode`.
        images: training images at the subnet's resolution, apart from those of scoring: `EvaluationImages`, or float32
            (n, resolution, resolution, channels).
        batch_size: images per batch.

    Returns:
        A list with a float32 (2, size) for each of `supernet.observers`.
    """
    batch_size = min(batch_size, len(images))
    code = tf.convert_to_tensor(code, tf.int32)
    whole = itertools.islice(batches_of(images, batch_size), len(images) // batch_size)
    batches = [supernet.batch_statistics(batch, code) for batch in whole]
    return pooled(supernet.observers, batches)


def pooled(observers: Sequence[Any], batches: Iterable[Sequence[tf.Tensor]]) -> list[np.ndarray]:
    """The statistics of each observer, float32 (2, size), from those of batches of equal size."""
    return [o.pooled(np.stack(of_batches)) for o, of_batches in zip(observers, zip(*batches, strict=True), strict=True)]


def subnet_logits(
    supernet: Supernet | SubnetNet,
    code: tf.Tensor | np.ndarray,
    statistics: Sequence[np.ndarray],
    images: EvaluationImages | np.ndarray,
    batch_size: int = 256,
) -> np.ndarray:
    """The logits of a subnet, float32 (n, classes).

    Args:
        supernet: `Supernet` or `SubnetNet`.
        code: int32 (n,), from `space.encode`.
        statistics: the result of `recalibrate`.
        images: `EvaluationImages`, or float32 (n, resolution, resolution, channels).
        batch_size: images per batch.

    Raises:
        NotFiniteError: logits are not finite.
    """
    code = tf.convert_to_tensor(code, tf.int32)
    statistics = [tf.convert_to_tensor(s) for s in statistics]
    logits = np.concatenate([supernet.logits(batch, code, statistics) for batch in batches_of(images, batch_size)])
    return check_finite(logits, "the subnet")


def check_finite(logits: np.ndarray, what: str) -> np.ndarray:
    """Logits, (n, classes), as they are; raises `NotFiniteError` if some of the network `what` are not finite."""
    if wrong := len(logits) - np.count_nonzero(np.isfinite(logits).all(axis=1)):
        raise NotFiniteError(
            f"{what}: the logits of {wrong:,} of {len(logits):,} images are not finite, so it has no accuracy: its "
            "values overflow, train it with a lower learning rate"
        )
    return logits


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of the rows of `logits` (n, classes) whose largest entry is at the label."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))
