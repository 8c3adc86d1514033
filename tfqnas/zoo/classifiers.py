"""Small classifiers for images of 28 to 32 pixels."""

import keras

from tfqnas.errors import UserError

# Filters, stride and expand ratio of each inverted residual of `mobilenet_small`.
_INVERTED = ((24, 2, 1), (24, 1, 4), (40, 2, 4), (40, 1, 4), (64, 1, 4), (64, 1, 4))


def mobilenet_small(
    num_classes: int = 10, channels: int = 1, size: int = 28, stem: int = 16, head: int = 256, activation: str = "relu6"
) -> keras.Model:
    """Inverted residuals with linear bottlenecks (MobileNetV2, Sandler et al., 2018), about 120,000 parameters.

    Args:
        num_classes: number of logits.
        channels: number of image channels, 1 or 3.
        size: height and width of the images in pixels.
        stem, head: filters of the first and the last convolution.
        activation: "relu6" or "relu".

    Returns:
        Functional `keras.Model` from images float32 (n, size, size, channels), `(x - 128) / 128`, to logits
        (n, num_classes).
    """
    if activation not in ("relu6", "relu"):
        raise UserError(f"activation: expected relu6 or relu, received {activation!r}")
    limit = 6.0 if activation == "relu6" else None
    x = images = keras.Input((size, size, channels))
    x = _normed(keras.layers.Conv2D(stem, 3, padding="same", use_bias=False, name="stem"), x, limit)
    for number, (filters, stride, expand) in enumerate(_INVERTED):
        x = _inverted_residual(x, filters, stride, expand, limit, f"block{number}")
    x = _normed(keras.layers.Conv2D(head, 1, use_bias=False, name="head"), x, limit)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(num_classes, name="classifier")(x), name="mobilenet_small")


def resnet_small(
    num_classes: int = 10, channels: int = 1, size: int = 28, filters: int = 16, blocks: int = 1
) -> keras.Model:
    """Basic blocks of two 3x3 convolutions in three stages (He et al., 2016), 78,000 parameters by default.

    Args:
        num_classes, channels, size: as in `mobilenet_small`.
        filters: filters of the first stage; each further stage has twice as many at half the resolution.
        blocks: number of blocks in each stage.

    Returns:
        Functional `keras.Model`, as in `mobilenet_small`.
    """
    x = images = keras.Input((size, size, channels))
    x = _normed(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name="stem"), x)
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _basic_block(x, filters * 2**stage, stride, f"stage{stage}_{block}")
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(num_classes, name="classifier")(x), name="resnet_small")


def _inverted_residual(
    x: keras.KerasTensor, filters: int, stride: int, expand: int, limit: float | None, name: str
) -> keras.KerasTensor:
    layers, inside = keras.layers, x.shape[-1] * expand
    y = x if expand == 1 else _normed(layers.Conv2D(inside, 1, use_bias=False, name=f"{name}_expand"), x, limit)
    depthwise = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"{name}_depthwise")
    y = _norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project"), _normed(depthwise, y, limit))
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == filters else y


def _basic_block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    layers = keras.layers
    y = _normed(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"{name}_conv0"), x)
    y = _norm(layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv1"), y)
    if stride != 1 or x.shape[-1] != filters:
        x = _norm(layers.Conv2D(filters, 1, stride, use_bias=False, name=f"{name}_shortcut"), x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def _norm(layer: keras.layers.Layer, x: keras.KerasTensor) -> keras.KerasTensor:
    """A layer followed by a BatchNorm."""
    # The momentum averages about the last hundred steps instead of a thousand, since trainings are short.
    return keras.layers.BatchNormalization(momentum=0.97, name=f"{layer.name}_norm")(layer(x))


def _normed(layer: keras.layers.Layer, x: keras.KerasTensor, limit: float | None = None) -> keras.KerasTensor:
    """A layer followed by a BatchNorm and a ReLU up to `limit`."""
    return keras.layers.ReLU(max_value=limit, name=f"{layer.name}_relu")(_norm(layer, x))
