"""Subnets as ordinary functional Keras models."""

import keras
import numpy as np

from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D, keras_activation


def extract(supernet, arch, statistics, name=None):
    """Cuts a subnet out of a supernet.

    The result is a plain functional Keras model of standard layers and quantized ones, with the subnet's own
    static input shape, the sliced weights, the shared steps and the recalibrated BatchNorm statistics. It
    computes what the supernet computes with the subnet's code, to float rounding, trains by `compile` and
    `fit`, and saves to and loads from `.keras`.

    Args:
        supernet: `Supernet`.
        arch: `Arch` of its space.
        statistics: from `tfqnas.recalibrate(supernet, space.encode(arch), images)`.
        name: of the model; by default the key of the architecture.

    Returns:
        `keras.Model` from float32 (batch, resolution, resolution, channels), normalised, to logits
        (batch, num_classes).
    """
    space, settings = supernet.space, supernet.settings
    space.validate(arch)
    blocks = space.blocks(arch)
    statistics = _by_norm(supernet, statistics)
    quantizers = {"weight_quantizer": settings["weights"], "input_quantizer": settings["inputs"]}
    pointwise = {"kernel_size": 1, "use_bias": False, **quantizers}
    fill = []  # (layer of the model, elastic layer, keyword arguments for its copy)

    def add(layer, source, x, **slices):
        fill.append((layer, source, slices))
        return layer(x)

    def norm(source, x, name):
        return add(keras.layers.BatchNormalization(momentum=0.9, epsilon=source.epsilon, name=name), source, x)

    def activation(kind, x, name):
        return keras.layers.Activation(keras_activation(kind), name=name)(x)

    def block(spec, layer, x):
        path = f"stage{spec.stage + 1}_block{spec.index + 1}"
        y = x
        if layer.expand is not None:
            y = add(QuantConv2D(spec.hidden, name=f"{path}_expand", **pointwise), layer.expand, y)
            y = norm(layer.expand_norm, y, f"{path}_expand_norm")
            y = activation(spec.activation, y, f"{path}_expand_activation")
        depthwise = QuantDepthwiseConv2D(
            spec.kernel, strides=spec.stride, padding="same", use_bias=False, name=f"{path}_depthwise",
            **quantizers,
        )  # fmt: skip
        y = add(depthwise, layer.depthwise, y)
        y = norm(layer.depthwise_norm, y, f"{path}_depthwise_norm")
        y = activation(spec.activation, y, f"{path}_depthwise_activation")
        if spec.se_channels:
            y = squeeze_excite(spec, layer.squeeze_excite, y, f"{path}_se")
        y = add(QuantConv2D(spec.out_channels, name=f"{path}_project", **pointwise), layer.project, y)
        y = norm(layer.project_norm, y, f"{path}_project_norm")
        return keras.layers.Add(name=f"{path}_add")([x, y]) if spec.residual else y

    def squeeze_excite(spec, layer, x, path):
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{path}_pool")(x)
        reduce = keras.layers.Conv2D(spec.se_channels, 1, activation="relu", name=f"{path}_reduce")
        gate = add(reduce, layer.reduce, gate)
        expand = keras.layers.Conv2D(spec.hidden, 1, activation="hard_sigmoid", name=f"{path}_expand")
        gate = add(expand, layer.expand, gate)
        return keras.layers.Multiply(name=f"{path}_scale")([x, gate])

    inputs = keras.Input((arch.resolution, arch.resolution, settings["channels"]), name="image")
    stem = keras.layers.Conv2D(
        space.stem_channels, space.stem_kernel, strides=space.stem_stride, padding="same", use_bias=False,
        name="stem",
    )  # fmt: skip
    x = norm(supernet.stem_norm, add(stem, supernet.stem, inputs), "stem_norm")
    x = activation(space.stem_activation, x, "stem_activation")
    by_place = {(s.stage, s.index): b for s, b in zip(space.blocks(space.largest()), supernet.blocks, strict=True)}
    for spec in blocks:
        x = block(spec, by_place[spec.stage, spec.index], x)
    x = add(QuantConv2D(space.head_channels, name="head", **pointwise), supernet.head, x)
    x = norm(supernet.head_norm, x, "head_norm")
    x = activation(space.head_activation, x, "head_activation")
    x = keras.layers.GlobalAveragePooling2D(keepdims=supernet.mix is not None, name="pool")(x)
    if supernet.mix is not None:
        x = add(QuantConv2D(space.mix_channels, name="mix", **pointwise), supernet.mix, x)
        x = activation(space.head_activation, x, "mix_activation")
        x = keras.layers.Flatten(name="flatten")(x)
    if settings["dropout"]:
        x = keras.layers.Dropout(settings["dropout"], name="dropout")(x)
    outputs = add(keras.layers.Dense(settings["num_classes"], name="classifier"), supernet.classifier, x)
    model = keras.Model(inputs, outputs, name=name or arch.key)
    for layer, source, slices in fill:
        _fill(layer, source, statistics.get(id(source)), **slices)
    return model


def _by_norm(supernet, statistics):
    if len(statistics) != len(supernet.norms):
        raise ValueError(
            f"statistics: expected one array for each of {len(supernet.norms)} BatchNorms, "
            f"received {len(statistics)}"
        )
    return {id(n): np.asarray(s) for n, s in zip(supernet.norms, statistics, strict=True)}


def _fill(layer, source, statistics):
    """Sets the weights of `layer` to the first entries, of a depthwise kernel to the centre, of `source`."""
    if isinstance(layer, keras.layers.BatchNormalization):
        width = layer.gamma.shape[0]
        mean, variance = statistics[:, :width]
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
        own, shared = getattr(layer, role, None), getattr(source, role, None)
        if own is None:
            continue
        shape = layer.kernel.shape if role == "weight_quantizer" else layer.input.shape
        for variable, value in zip(own.variables, shared.values_for(shape), strict=True):
            variable.assign(value)
