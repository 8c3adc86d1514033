"""Extracts subnets as ordinary functional Keras models."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.arch import Arch
from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D, keras_activation
from tfqnas.quantizers import FLOAT, Quantizer, quantizers_of
from tfqnas.spaces import Block
from tfqnas.supernet import Supernet


def extract(supernet: Supernet, arch: Arch, statistics: Sequence[np.ndarray], name: str | None = None) -> keras.Model:
    """Cuts a subnet out of a supernet.

    The result is a functional Keras model of standard and quantized layers. It has the subnet's static input shape, the
    sliced weights, the shared steps, and the recalibrated statistics of BatchNorm and quantizers. Each layer has
    quantizers of its own bit widths if the supernet is mixed. The model computes the same as the supernet with the
    subnet's code, to float rounding. It trains with `compile` and `fit`, and is saved to and loaded from `.keras`.

    Args:
        supernet: `Supernet`.
        arch: `Arch` of its space.
        statistics: the result of `tfqnas.recalibrate(supernet, space.encode(arch), images)`.
        name: name of the model; by default the key of the architecture.

    Returns:
        `keras.Model` from normalised images, float32 (batch, resolution, resolution, channels), to logits
        (batch, num_classes).

    Raises:
        ValueError: `arch` is not of the supernet's space, or the number of statistics is wrong.
    """
    space, settings = supernet.space, supernet.settings
    space.validate(arch)
    blocks = space.blocks(arch)
    by_observer = _by_observer(supernet, statistics)
    prototypes = {
        f"{role}_quantizer": prototype and prototype.for_sizes({})  # of one size
        for role, prototype in (("weight", settings["weights"]), ("input", settings["inputs"]))
    }
    fill = []  # (layer of the model, elastic layer, quantizers in a mixed supernet)

    def add(
        layer: keras.layers.Layer,
        source: keras.layers.Layer,
        x: keras.KerasTensor,
        chosen: dict[str, Quantizer | None] | None = None,
    ) -> keras.KerasTensor:
        fill.append((layer, source, chosen))
        return layer(x)

    def quantized(
        source: keras.layers.Layer,
        x: keras.KerasTensor,
        bits: tuple[int, int] | None,
        name: str,
        filters: int | None = None,
        kernel_size: int = 1,
        **settings: Any,
    ) -> keras.KerasTensor:
        """A quantized convolution, which is depthwise if `filters` is None."""
        quantizers = prototypes if bits is None else _quantizers(source, bits, kernel_size, by_observer)
        common = {"name": name, "use_bias": False, **quantizers, **settings}
        if filters is None:
            layer = QuantDepthwiseConv2D(kernel_size, padding="same", **common)
        else:
            layer = QuantConv2D(filters, kernel_size, **common)
        return add(layer, source, x, quantizers if bits is not None else None)

    def norm(source: keras.layers.Layer, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return add(keras.layers.BatchNormalization(momentum=0.9, epsilon=source.epsilon, name=name), source, x)

    def activation(kind: str, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Activation(keras_activation(kind), name=name)(x)

    def block(spec: Block, layer: keras.layers.Layer, x: keras.KerasTensor) -> keras.KerasTensor:
        path = f"stage{spec.stage + 1}_block{spec.index + 1}"
        y, bits = x, iter(spec.bits or itertools.repeat(None))
        if layer.expand is not None:
            y = quantized(layer.expand, y, next(bits), f"{path}_expand", spec.hidden)
            y = norm(layer.expand_norm, y, f"{path}_expand_norm")
            y = activation(spec.activation, y, f"{path}_expand_activation")
        y = quantized(layer.depthwise, y, next(bits), f"{path}_depthwise", kernel_size=spec.kernel, strides=spec.stride)
        y = norm(layer.depthwise_norm, y, f"{path}_depthwise_norm")
        y = activation(spec.activation, y, f"{path}_depthwise_activation")
        if spec.se_channels:
            y = squeeze_excite(spec, layer.squeeze_excite, y, f"{path}_se")
        y = quantized(layer.project, y, next(bits), f"{path}_project", spec.out_channels)
        y = norm(layer.project_norm, y, f"{path}_project_norm")
        return keras.layers.Add(name=f"{path}_add")([x, y]) if spec.residual else y

    def squeeze_excite(spec: Block, layer: keras.layers.Layer, x: keras.KerasTensor, path: str) -> keras.KerasTensor:
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{path}_pool")(x)
        reduce = keras.layers.Conv2D(spec.se_channels, 1, activation="relu", name=f"{path}_reduce")
        gate = add(reduce, layer.reduce, gate)
        expand = keras.layers.Conv2D(spec.hidden, 1, activation="hard_sigmoid", name=f"{path}_expand")
        gate = add(expand, layer.expand, gate)
        return keras.layers.Multiply(name=f"{path}_scale")([x, gate])

    inputs = keras.Input((arch.resolution, arch.resolution, settings["channels"]), name="image")
    stem = keras.layers.Conv2D(
        space.stem_channels, space.stem_kernel, strides=space.stem_stride, padding="same", use_bias=False, name="stem"
    )
    x = norm(supernet.stem_norm, add(stem, supernet.stem, inputs), "stem_norm")
    x = activation(space.stem_activation, x, "stem_activation")
    by_place = {(s.stage, s.index): b for s, b in zip(space.blocks(space.largest()), supernet.blocks, strict=True)}
    for spec in blocks:
        x = block(spec, by_place[spec.stage, spec.index], x)
    of_head, *of_feature = space.end_bits(arch)
    x = quantized(supernet.head, x, of_head, "head", space.head_channels)
    x = norm(supernet.head_norm, x, "head_norm")
    x = activation(space.head_activation, x, "head_activation")
    x = keras.layers.GlobalAveragePooling2D(keepdims=supernet.feature is not None, name="pool")(x)
    if supernet.feature is not None:
        x = quantized(supernet.feature, x, of_feature[0], "mix", space.feature_channels)
        x = activation(space.head_activation, x, "mix_activation")
        x = keras.layers.Flatten(name="flatten")(x)
    if settings["dropout"]:
        x = keras.layers.Dropout(settings["dropout"], name="dropout")(x)
    outputs = add(keras.layers.Dense(settings["num_classes"], name="classifier"), supernet.classifier, x)
    model = keras.Model(inputs, outputs, name=name or arch.key)
    for layer, source, chosen in fill:
        _fill(layer, source, by_observer, chosen)
    return model


def snap_zero_points(model: keras.Model, snapped: bool = True) -> None:
    """Sets whether a model's `BatchQuant` quantizers round their zero points in evaluation, as integer models must."""
    for quantizer in quantizers_of(model):
        if quantizer.traits.observes:
            quantizer.snapped = snapped


def _by_observer(supernet: Supernet, statistics: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    observers = supernet.observers
    if len(statistics) != len(observers):
        raise ValueError(
            f"statistics: expected one array for each of {len(observers)} BatchNorms and quantizers, "
            f"received {len(statistics)}"
        )
    return {id(o): np.asarray(s) for o, s in zip(observers, statistics, strict=True)}


def _quantizers(
    source: keras.layers.Layer, bits: tuple[int, int], kernel_size: int, statistics: Mapping[int, np.ndarray]
) -> dict[str, Quantizer | None]:
    """The quantizers with these bit widths for a layer of a mixed supernet, as keyword arguments."""
    quantizers = {}
    for width, role in zip(bits, ("weight_quantizer", "input_quantizer"), strict=True):
        quantizer = getattr(source, role)
        if quantizer is not None:
            seen = statistics.get(id(quantizer))
            quantizer = None if width == FLOAT else quantizer.static(width, kernel_size, seen)
        quantizers[role] = quantizer
    return quantizers


def _fill(
    layer: keras.layers.Layer,
    source: keras.layers.Layer,
    statistics: Mapping[int, np.ndarray],
    chosen: Mapping[str, Quantizer | None] | None,
) -> None:
    """Sets the weights of `layer` to the first entries of those of `source`, or to the centre of a depthwise kernel.

    `chosen` holds the quantizers whose values the layer's quantizers get in a mixed supernet.
    """
    if isinstance(layer, keras.layers.BatchNormalization):
        width = layer.gamma.shape[0]
        mean, variance = statistics[id(source)][:, :width]
        layer.set_weights([source.gamma.numpy()[:width], source.beta.numpy()[:width], mean, variance])
        return
    if isinstance(layer, QuantDepthwiseConv2D):
        kernel = source.view(layer.kernel.shape[0], layer.kernel.shape[2])
    else:
        kernel = source.kernel.numpy()[tuple(slice(n) for n in layer.kernel.shape)]
    layer.kernel.assign(kernel)
    if layer.use_bias:
        layer.bias.assign(source.bias.numpy()[: layer.bias.shape[0]])
    for role in ("weight_quantizer", "input_quantizer"):
        own = getattr(layer, role, None)
        if own is None:
            continue
        static = None if chosen is None else chosen[role]
        if static is not None:
            values = static.variables
        else:
            shared = getattr(source, role)
            values = shared.values_for(layer.kernel.shape if role == "weight_quantizer" else layer.input.shape)
            if shared.traits.observes:
                values = shared.with_statistics(values, statistics[id(shared)])
        for variable, value in zip(own.variables, values, strict=True):
            variable.assign(value)
