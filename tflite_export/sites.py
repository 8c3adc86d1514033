"""A Keras model as sites: what becomes one integer computation each, with its BatchNorm and its activation."""

import dataclasses

import keras

from tfqnas.errors import UserError
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D

CONVOLUTIONS = {
    keras.layers.Conv2D: "conv_2d",
    QuantConv2D: "conv_2d",
    keras.layers.DepthwiseConv2D: "depthwise_conv_2d",
    QuantDepthwiseConv2D: "depthwise_conv_2d",
    keras.layers.Dense: "fully_connected",
    QuantDense: "fully_connected",
}
_SUMS = {keras.layers.Add: "add", keras.layers.Multiply: "mul", keras.layers.GlobalAveragePooling2D: "mean"}
_NOTHING = (keras.layers.Dropout,)
ACTIVATIONS = {
    "linear": "none",
    "relu": "relu",
    "relu6": "relu6",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
}


class ExportError(UserError):
    """A model that has no exact integer form; its message names layer and value."""


@dataclasses.dataclass
class Site:
    """One computation of a model, and the float tensor that it makes.

    Args:
        layer: the Keras layer that computes.
        kind: "input", "conv_2d", "depthwise_conv_2d", "fully_connected", "add", "mul", "mean".
        inputs: the sites that it reads.
        tensor: the Keras tensor behind BatchNorm and activation. before: the one before the activation.
        norm: the BatchNormalization that follows, or None.
        activation: a value of `ACTIVATIONS`.
        readers: the sites that read it.
    """

    layer: keras.layers.Layer
    kind: str
    inputs: list
    tensor: object
    before: object = None
    norm: keras.layers.Layer | None = None
    activation: str = "none"
    readers: list = dataclasses.field(default_factory=list)

    @property
    def name(self):
        return self.layer.name

    @property
    def shape(self):
        """Of its tensor, without the batch axis."""
        return tuple(self.tensor.shape[1:])


def sites_of(model):
    """The `Site`s of a functional or Sequential model, each after those that it reads.

    Raises:
        ExportError: for a layer or a connection that has no integer form here, with its name and type.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(f"{model.name}: expected one input and one output, has {len(model.inputs)} and "
                          f"{len(model.outputs)}")  # fmt: skip
    uses = _uses(model)
    found, by_tensor = [], {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            site = Site(layer, "input", [], layer.output)
        else:
            _refuse_several(layer)
            tensors = layer.input if isinstance(layer.input, list) else [layer.input]
            inputs = [by_tensor[id(t)] for t in tensors]
            site = _site(layer, inputs, uses)
        if site.layer is layer:
            found.append(site)
        site.tensor = layer.output
        by_tensor[id(layer.output)] = site
    for site in found:
        if site.before is None:
            site.before = site.tensor
        for read in site.inputs:
            read.readers.append(site)
    return found


def _site(layer, inputs, uses):
    """A new site, or the one before, which then has `layer` as its end."""
    before = inputs[0]
    alone = uses[id(before.tensor)] == 1
    if type(layer) in CONVOLUTIONS:
        site = Site(layer, CONVOLUTIONS[type(layer)], inputs, layer.output)
        site.activation = _activation(layer)
        return site
    if type(layer) in _SUMS:
        if len(inputs) != (1 if isinstance(layer, keras.layers.GlobalAveragePooling2D) else 2):
            raise _unsupported(layer, f"it reads {len(inputs)} tensors")
        return Site(layer, _SUMS[type(layer)], inputs, layer.output)
    if isinstance(layer, _NOTHING):
        return before
    if isinstance(layer, keras.layers.Flatten):
        if any(n != 1 for n in before.shape[:-1]):
            raise _unsupported(layer, f"flattening {before.shape}, expected 1 x 1 pixel")
        return before
    if isinstance(layer, keras.layers.BatchNormalization):
        if before.kind not in CONVOLUTIONS.values() or before.norm or before.activation != "none" or not alone:
            raise _unsupported(layer, f"it does not directly follow a convolution but {before.name}")
        before.norm = layer
        return before
    if isinstance(layer, keras.layers.Activation | keras.layers.ReLU):
        activation = _activation(layer)
        if activation == "none":
            return before
        if before.kind not in CONVOLUTIONS.values() or before.activation != "none" or not alone:
            raise _unsupported(layer, f"it does not directly follow a convolution but {before.name}")
        before.before, before.activation = before.tensor, activation
        return before
    raise _unsupported(layer, "")


def _activation(layer):
    if isinstance(layer, keras.layers.ReLU):
        kind = {None: "relu", 6.0: "relu6"}.get(layer.max_value)
        if kind is None or layer.negative_slope or layer.threshold:
            raise _unsupported(layer, "a ReLU with other settings than max_value=6")
        return kind
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ACTIVATIONS:
        raise _unsupported(layer, f"activation {name}, expected one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def _uses(model):
    """How often each Keras tensor is read."""
    counts = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            _refuse_several(layer)
            for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
                counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    for tensor in model.outputs:
        counts[id(tensor)] = counts.get(id(tensor), 0) + 1
    return counts


def _refuse_several(layer):
    if len(layer._inbound_nodes) != 1:
        raise _unsupported(layer, f"it is called {len(layer._inbound_nodes)} times")


def _unsupported(layer, why):
    return ExportError(f"layer {layer.name} ({type(layer).__name__}): no integer form{why and ': '}{why}")
