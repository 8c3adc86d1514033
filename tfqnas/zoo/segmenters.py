"""A small network for segmentation."""

import keras

from tfqnas.errors import UserError

_STEP = 4  # image pixels to a pixel of the smallest map


def segmenter_small(
    num_classes: int = 3, channels: int = 3, size: int = 64, filters: int = 16, blocks: int = 1
) -> keras.Model:
    """An encoder with two poolings and a decoder that enlarges by the nearest pixel and adds the encoder's maps.

    The sums are those of a feature pyramid (Lin et al., 2017, section 3): a 1x1 convolution of the larger map is added
    to the enlarged smaller one.

    Args:
        num_classes: number of classes, or 1 for the logit of the second of two.
        channels: number of image channels, 1 or 3.
        size: height and width of the images in pixels, a multiple of 4.
        filters: filters of the first maps; each smaller one has twice as many.
        blocks: number of 3x3 convolutions on each map of the encoder.

    Returns:
        Functional `keras.Model` from images float32 (n, size, size, channels), `(x - 128) / 128`, to logits
        (n, size, size, num_classes).
    """
    if size % _STEP:
        raise UserError(f"size: expected a multiple of {_STEP}, received {size}")
    layers, maps = keras.layers, []
    x = images = keras.Input((size, size, channels))
    for scale in range(3):
        if scale:
            x = layers.MaxPooling2D(2, name=f"pool{scale}")(x)
        for block in range(blocks):
            x = _normed(x, filters * 2**scale, 3, f"down{scale}_{block}")
        maps.append(x)
    for scale in (1, 0):
        x = layers.UpSampling2D(2, name=f"larger{scale}")(_normed(x, filters * 2**scale, 1, f"narrow{scale}", False))
        side = _normed(maps[scale], filters * 2**scale, 1, f"side{scale}", False)
        x = layers.ReLU(name=f"sum{scale}_relu")(layers.Add(name=f"sum{scale}")([x, side]))
        x = _normed(x, filters * 2**scale, 3, f"up{scale}")
    return keras.Model(images, layers.Conv2D(num_classes, 1, name="classes")(x), name="segmenter_small")


def _normed(x: keras.KerasTensor, filters: int, kernel: int, name: str, relu: bool = True) -> keras.KerasTensor:
    layers = keras.layers
    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
