"""The loss of a subnet: cross entropy with smoothed labels, and distillation from soft labels."""

import tensorflow as tf


def subnet_loss(
    logits: tf.Tensor,
    labels: tf.Tensor,
    soft_logits: tf.Tensor,
    soft_weight: tf.Tensor | float,
    label_smoothing: float,
    temperature: float,
) -> tf.Tensor:
    """The mean over the batch of `(1 - w) * CE(labels) + w * T^2 * CE(softmax(soft_logits / T))`.

    The cross entropy with soft labels differs from the Kullback-Leibler divergence of Hinton et al. (2015) by the
    teacher's entropy, which has no gradient.

    Args:
        logits: float32 (batch, classes).
        labels: int32 (batch,).
        soft_logits: logits of the teacher, float32 (batch, classes); no gradient flows into them.
        soft_weight: `w`, float32 scalar in [0, 1].
        label_smoothing: fraction of the label's probability that is spread over all classes.
        temperature: `T`.

    Returns:
        float32 scalar.
    """
    classes = logits.shape[-1]
    hard = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
    soft = tf.nn.softmax(tf.stop_gradient(soft_logits) / temperature)
    hard_loss = tf.nn.softmax_cross_entropy_with_logits(hard, logits)
    soft_loss = tf.nn.softmax_cross_entropy_with_logits(soft, logits / temperature)
    return tf.reduce_mean((1.0 - soft_weight) * hard_loss + soft_weight * temperature**2 * soft_loss)
