"""BatchNorm statistics of a quantized model, estimated anew: what quantization moved is normalised away."""

import keras
import numpy as np

from tfqnas.conversion import rebuilt


def recalibrated(model: keras.Model, images: np.ndarray, batch_size: int) -> keras.Model:
    """A copy of a model whose BatchNorm statistics are those of images, each layer's with those before it renewed.

    Of each layer the mean and the variance over all images: of a batch of inputs their means and mean squares are
    pooled. So layer by layer, in their order, in one pass of all images for each.

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
    try:
        for count in range(len(images) // size):
            for layer in norms:
                layer.momentum = count / (count + 1)
            copy(images[count * size : (count + 1) * size], training=True)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
    assert all(np.isfinite(layer.moving_variance.numpy()).all() for layer in norms)
    return copy
