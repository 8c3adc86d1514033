"""Small super-resolution networks of residual blocks at low resolution and a final depth to space."""

from collections.abc import Callable
from typing import Any

import keras

from tfqnas.errors import UserError
from tfqnas.layers import DepthToSpace, Quantize
from tfqnas.quantizers import Calibrated

SCALES = (2, 4)


def edsr(scale: int = 2, filters: int = 24, blocks: int = 4, channels: int = 3, size: int | None = None) -> keras.Model:
    """Residual blocks without BatchNorm (EDSR, Lim et al., 2017), 69,000 parameters at scale 2.

    The paper scales the residual of wide networks by 0.1. Here the second convolution of each block starts with
    accordingly small weights instead, which needs no layer.

    Args:
        scale: upscaling factor, 2 or 4; 4 takes two steps.
        filters: filters of all convolutions between the first and the last.
        blocks: number of residual blocks.
        channels: number of image channels.
        size: height and width of low-resolution images, or None for any.

    Returns:
        Functional `keras.Model` from float32 (n, h, w, channels) to (n, scale h, scale w, channels), both
        `(x - 128) / 128`.
    """
    x = low = _input(scale, channels, size)
    x = first = _conv(filters, name="head")(x)
    for block in range(blocks):
        y = keras.layers.ReLU(name=f"block{block}_relu")(_conv(filters, name=f"block{block}_conv0")(x))
        y = _conv(filters, name=f"block{block}_conv1", gain=0.01)(y)
        x = keras.layers.Add(name=f"block{block}_add")([x, y])
    x = keras.layers.Add(name="body_add")([first, _conv(filters, name="body")(x)])
    for step in range(_doublings(scale)):
        x = DepthToSpace(2, name=f"up{step}_shuffle")(_conv(4 * filters, name=f"up{step}")(x))
    return keras.Model(low, _conv(channels, name="tail")(x), name=f"edsr_x{scale}")


def srresnet(
    scale: int = 2, filters: int = 24, blocks: int = 4, channels: int = 3, size: int | None = None
) -> keras.Model:
    """Residual blocks with BatchNorm (SRResNet, Ledig et al., 2017), 72,000 parameters at scale 2.

    It departs from the paper as follows. It uses ReLU, since PReLU has no integer form here, and no activation after
    the first convolution, whose negative values the skip connection must carry. The first and last kernels have 5
    instead of 9 pixels. The last BatchNorm of each residual starts with a factor of 0.1. The ReLU of an upscaling step
    comes before its shuffle, which computes the same. Arguments and result are as in `edsr`.
    """
    layers = keras.layers
    x = low = _input(scale, channels, size)
    x = first = _conv(filters, 5, name="head")(x)
    for block in range(blocks):
        y = layers.ReLU(name=f"block{block}_relu")(_normed_conv(filters, f"block{block}_conv0")(x))
        x = layers.Add(name=f"block{block}_add")([x, _normed_conv(filters, f"block{block}_conv1", gamma=0.1)(y)])
    x = layers.Add(name="body_add")([first, _normed_conv(filters, "body", gamma=0.1)(x)])
    for step in range(_doublings(scale)):
        x = layers.ReLU(name=f"up{step}_relu")(_conv(4 * filters, name=f"up{step}")(x))
        x = DepthToSpace(2, name=f"up{step}_shuffle")(x)
    return keras.Model(low, _conv(channels, 5, name="tail")(x), name=f"srresnet_x{scale}")


def scale_of(model: keras.Model) -> int:
    """The upscaling factor of a super-resolution model, 1 for other models."""
    scale = 1
    for layer in model.layers:
        scale *= layer.block_size if isinstance(layer, DepthToSpace) else 1
    return scale


def with_pixel_output(model: keras.Model) -> keras.Model:
    """The model with its output on the grid of pixels. It shares the layers of `model`, which may be quantized or not.

    An exported file then returns `pixel - 128` as int8, instead of steps of a calibrated range.

    Args:
        model: super-resolution `keras.Model`, whose output is `(x - 128) / 128`.
    """
    pixels = Quantize(Calibrated(bits=8, fixed=(-1.0, 127 / 128)), name="pixels")
    return keras.Model(model.inputs[0], pixels(model.outputs[0]), name=model.name)


def _input(scale: int, channels: int, size: int | None) -> keras.KerasTensor:
    if scale not in SCALES:
        raise UserError(f"scale: expected one of {', '.join(map(str, SCALES))}, received {scale!r}")
    return keras.Input((size, size, channels), name="low")


def _doublings(scale: int) -> int:
    return scale.bit_length() - 1


def _conv(
    filters: int, kernel: int = 3, name: str | None = None, gain: float = 1.0, **settings: Any
) -> keras.layers.Conv2D:
    """A convolution; `gain` multiplies the variance of its initial weights, and 1 keeps the variance of its input."""
    initializer = keras.initializers.VarianceScaling(gain, "fan_in", "truncated_normal")
    return keras.layers.Conv2D(filters, kernel, padding="same", kernel_initializer=initializer, name=name, **settings)


def _normed_conv(filters: int, name: str, gamma: float = 1.0) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    conv = _conv(filters, name=name, use_bias=False)
    initializer = keras.initializers.Constant(gamma)
    norm = keras.layers.BatchNormalization(momentum=0.97, gamma_initializer=initializer, name=f"{name}_norm")
    return lambda x: norm(conv(x))
