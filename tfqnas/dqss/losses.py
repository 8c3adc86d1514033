"""Distances of the outputs of a quantized model from those of the float model, as float32 scalars."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfqnas.tasks.losses import TINY, kl, mse

# Shares of R, G and B in the luma Y (ITU-R BT.601), and the weight of the three channels, which preserves colours.
_LUMA, _COLOURS = (0.299, 0.587, 0.114), 0.1


def luma(y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`mse` of the luma Y, the usual measure of super-resolution, plus a tenth of the `mse` of the RGB channels.

    Errors that differ between channels average out in Y, so the `mse` of the channels alone prefers other quantizers.

    Args:
        y, target: float32 (n, height, width, 3), images in RGB.
    """
    brightness = [tf.linalg.matvec(image, _LUMA) for image in (y, target)]
    return mse(*brightness) + _COLOURS * mse(y, target)


def cosine(y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`1 - mean_n cos(y_n, target_n)`, with each example as one vector."""
    y, target = (tf.reshape(t, [tf.shape(t)[0], -1]) for t in (y, target))
    return 1.0 - tf.reduce_mean(tf.reduce_sum(tf.nn.l2_normalize(y, -1) * tf.nn.l2_normalize(target, -1), axis=-1))


def features(ys: Sequence[tf.Tensor], targets: Sequence[tf.Tensor]) -> tf.Tensor:
    """The mean of `mse` over pairs of tensors, which are intermediate tensors and the output."""
    return tf.add_n([mse(y, target) for y, target in zip(ys, targets, strict=True)]) / len(ys)


def entropy(coefficients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Mean over mixtures of `-sum_i a_i log a_i / log k`, which is 1 for equal coefficients and 0 for one-hot ones.

    Args:
        coefficients: list of float32 (k,), with k at least 2.
    """
    shares = [-tf.reduce_sum(a * tf.math.log(a + TINY)) / tf.math.log(float(a.shape[0])) for a in coefficients]
    return tf.add_n(shares) / len(shares)


def of_name(
    name: str, probabilities: bool = False, count: int = 1
) -> Callable[[Sequence[tf.Tensor], Sequence[tf.Tensor]], tf.Tensor]:
    """The loss with this name, a function `f(ys, targets)` of lists of tensors that end with the outputs.

    Args:
        name: "kl", "mse", "luma", "cosine" or "features".
        probabilities: whether the outputs are those of a softmax.
        count: number of outputs, over which the loss is a mean.
    """
    if name == "features":
        return features
    if name == "kl":
        one: Callable[..., tf.Tensor] = functools.partial(kl, probabilities=probabilities)
    else:
        one = {"mse": mse, "luma": luma, "cosine": cosine}[name]

    def mean(ys: Sequence[tf.Tensor], targets: Sequence[tf.Tensor]) -> tf.Tensor:
        found = [one(y, target) for y, target in zip(ys[-count:], targets[-count:], strict=True)]
        return found[0] if count == 1 else tf.add_n(found) / count

    return mean
