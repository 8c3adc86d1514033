"""Distances of the outputs of a model from those of another, as float32 scalars. TensorFlow is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

TINY = 1e-12


def log_probabilities(y: tf.Tensor, probabilities: bool = False) -> tf.Tensor:
    """Log probabilities, float32 (..., classes), of logits or, with `probabilities`, of the outputs of a softmax."""
    import tensorflow as tf

    return tf.math.log(tf.maximum(y, TINY)) if probabilities else tf.nn.log_softmax(y)


def kl(y: tf.Tensor, target: tf.Tensor, probabilities: bool = False) -> tf.Tensor:
    """`mean_n sum_c p (log p - log q)`, the Kullback-Leibler divergence of `q = softmax(y)` from `p = softmax(target)`.

    Args:
        y, target: float32 (n, ..., classes), logits or, with `probabilities`, outputs of a softmax. The mean is also
            over the axes between.
    """
    import tensorflow as tf

    p, q = log_probabilities(target, probabilities), log_probabilities(y, probabilities)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(p) * (p - q), axis=-1))


def mse(y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`mean (y - target)^2 / mean (target - mean target)^2`, the squared error as a share of the target's variance."""
    import tensorflow as tf

    _, variance = tf.nn.moments(target, list(range(len(target.shape))))
    return tf.reduce_mean(tf.math.squared_difference(y, target)) / tf.maximum(variance, TINY)


def of_classes(y: tf.Tensor, probabilities: bool = False) -> tf.Tensor:
    """Outputs with a channel for each class: a single one is the logit or the probability of the second of two."""
    import tensorflow as tf

    if y.shape[-1] != 1:
        return y
    return tf.concat([1.0 - y if probabilities else tf.zeros_like(y), y], axis=-1)
