"""Estimates the BatchNorm statistics of a quantized model again, which removes shifts that quantization causes."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from tfqnas.graph.rebuilding import rebuilt


def recalibrated(model: keras.Model, images: np.ndarray, batch_size: int) -> keras.Model:
    """A copy of a model with BatchNorm statistics estimated from images.

    The statistics are the means over the batches of the batch means and variances, from one pass over the images. The
    inputs of a layer are computed with the batch statistics of the layers before it.

    Args:
        model: functional Keras model.
        images: float32 (n, height, width, channels).
        batch_size: images of a batch.
    """
    copy = rebuilt(model)
    norms = [layer for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return copy
    momenta = [layer.momentum for layer in norms]
    # In training mode a layer normalises by its batch; momentum `k / (k + 1)` after k batches gives their plain mean.
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
    """A context in which a model called with `training=True` uses batch statistics but no dropout."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
