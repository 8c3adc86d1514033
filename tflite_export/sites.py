"""A Keras model as sites: what becomes one integer computation each, with its BatchNorm and its activation."""

import collections
import dataclasses
import math

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
_SUMS = {keras.layers.Add: "add", keras.layers.Multiply: "mul"}
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
        branched: whether its tensor, or one on the way to it, is read several times: nothing may be absorbed then.
    """

    layer: keras.layers.Layer
    kind: str
    inputs: list
    tensor: object
    before: object = None
    norm: keras.layers.Layer | None = None
    activation: str = "none"
    readers: list = dataclasses.field(default_factory=list)
    branched: bool = False

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
    model = getattr(model, "_functional", None) or model  # a Sequential model has one inside
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ExportError(f"{model.name}: expected a functional or Sequential model that has been built")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(f"{model.name}: expected one input and one output, has {len(model.inputs)} and "
                          f"{len(model.outputs)}")  # fmt: skip
    nodes = _nodes(model)
    uses = collections.Counter(id(t) for node in nodes.values() for t in node.input_tensors)
    uses.update(id(t) for t in model.outputs)
    found, by_tensor = [], {}
    for layer, node in nodes.items():
        (tensor,) = node.output_tensors
        if isinstance(layer, keras.layers.InputLayer):
            site = Site(layer, "input", [], tensor)
        else:
            site = _site(layer, [by_tensor[id(t)] for t in node.input_tensors])
        if site.layer is layer:
            found.append(site)
        site.tensor = tensor
        site.branched |= uses[id(tensor)] > 1
        by_tensor[id(tensor)] = site
    for site in found:
        if site.before is None:
            site.before = site.tensor
        for read in site.inputs:
            read.readers.append(site)
            if read.kind == "fully_connected" and site.kind != "fully_connected":
                raise _unsupported(site.layer, f"it reads {read.name}, a Dense layer, which only Dense layers may")
    return found


def _nodes(model):
    """`{layer: its one node in this model}`, in an order of computation."""
    inside = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    found = {}
    for layer in model.layers:
        own = [node for node in layer._inbound_nodes if id(node) in inside]
        if len(own) != 1:
            raise _unsupported(layer, f"it is called {len(own)} times")
        found[layer] = own[0]
    return found


def _site(layer, inputs):
    """A new site, or the one before, which then has `layer` as its end."""
    before = inputs[0]
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _unsupported(layer, f"data format {layer.data_format}, expected channels_last")
    if type(layer) in CONVOLUTIONS:
        site = Site(layer, CONVOLUTIONS[type(layer)], inputs, None)
        site.activation = _activation(layer)
        if site.kind == "fully_connected" and _pixels(before) != 1:
            raise _unsupported(layer, f"its input is {before.shape}, expected 1 x 1 pixel")
        return site
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return Site(layer, "mean", inputs, None)
    if type(layer) in _SUMS:
        return _sum(layer, inputs)
    if isinstance(layer, _NOTHING):
        return before
    if isinstance(layer, keras.layers.Flatten):
        if _pixels(before) != 1:
            raise _unsupported(layer, f"flattening {before.shape}, expected 1 x 1 pixel")
        return before
    if isinstance(layer, keras.layers.BatchNormalization):
        if layer.axis not in (-1, len(before.shape), [-1], [len(before.shape)]):
            raise _unsupported(layer, f"axis {layer.axis}, expected the last one")
        _refuse_other_place(layer, before, without_norm=True)
        before.norm = layer
        return before
    if isinstance(layer, keras.layers.Activation | keras.layers.ReLU):
        activation = _activation(layer)
        if activation == "none":
            return before
        _refuse_other_place(layer, before, without_norm=False)
        before.before, before.activation = before.tensor, activation
        return before
    raise _unsupported(layer, "")


def _sum(layer, inputs):
    kind, shapes = _SUMS[type(layer)], [site.shape for site in inputs]
    if len(inputs) != 2:
        raise _unsupported(layer, f"it reads {len(inputs)} tensors, expected 2")
    alike = len(shapes[0]) == len(shapes[1]) and all(
        a == b or (kind == "mul" and 1 in (a, b)) for a, b in zip(*shapes, strict=True)
    )
    if not alike:
        raise _unsupported(layer, f"it reads tensors of {shapes[0]} and {shapes[1]}")
    return Site(layer, kind, inputs, None)


def _refuse_other_place(layer, before, without_norm):
    """BatchNorm and activations are computed by the convolution that they follow."""
    if before.kind not in CONVOLUTIONS.values():
        raise _unsupported(layer, f"it does not directly follow a convolution but {before.name}")
    if before.branched:
        raise _unsupported(layer, f"other layers, too, read {before.name}, which it follows")
    if before.activation != "none" or (without_norm and before.norm):
        raise _unsupported(layer, f"{before.name}, which it follows, has an activation or a BatchNorm already")


def _pixels(site):
    return math.prod(n or 0 for n in site.shape[:-1])


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


def _unsupported(layer, why):
    return ExportError(f"layer {layer.name} ({type(layer).__name__}): no integer form{why and ': '}{why}")
