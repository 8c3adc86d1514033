"""BatchNorm statistics of a quantized model, estimated anew: what quantization moved is normalised away."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from tfqnas.graph.rewriting import rebuilt


def recalibrated(model: keras.Model, images: np.ndarray, batch_size: int) -> keras.Model:
    """A copy of a model whose BatchNorm statistics are those of images, each layer's with those before it renewed.

    Of each layer the means over the batches of their means and variances, in one pass over the images: a layer's inputs
    are computed with the batch statistics of those before it.

    Args:
        model: functional Keras model. images: float32 (n, height, width, channels). batch_size: images at once.
    """
    copy = rebuilt(model)
    norms = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return copy
    momenta = [layer.momentum for layer in norms]
    # In training mode a layer normalises by its batch, and momentum 1/k makes the moving mean that of k batches.
    size = min(batch_size, len(images))
    with without_dropout(copy):
        for count in range(len(images) // size):
            for layer in norms:
                layer.momentum = count / (count + 1)
            copy(images[count * size : (count + 1) * size], training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    assert all(np.isfinite(layer.moving_variance.numpy()).all() for layer in norms)
    return copy


@contextlib.contextmanager
def without_dropout(model: keras.Model) -> Iterator[None]:
    """Within it, what a model computes with `training=True` has batch statistics, and drops nothing."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
