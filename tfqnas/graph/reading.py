"""Reads a Keras model as sites: computations that become one integer operation, with BatchNorm and activation.

`quantize` puts quantizers into the sites of a model, and the exporter lowers them.
"""

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.errors import UnsupportedModelError
from tfqnas.graph.keras_internals import nodes_of
from tfqnas.layers import DepthToSpace, QuantConv2D, QuantDense, QuantDepthwiseConv2D, Quantize
from tfqnas.quantizers import Quantizer

CONVOLUTIONS = {
    keras.layers.Conv2D: "conv_2d",
    QuantConv2D: "conv_2d",
    keras.layers.DepthwiseConv2D: "depthwise_conv_2d",
    QuantDepthwiseConv2D: "depthwise_conv_2d",
    keras.layers.Dense: "fully_connected",
    QuantDense: "fully_connected",
}
_SUMS = {keras.layers.Add: "add", keras.layers.Multiply: "mul"}
_RESHAPES = (keras.layers.Reshape, keras.layers.Flatten)
_POOLS = {keras.layers.MaxPooling2D: "max_pool_2d", keras.layers.AveragePooling2D: "average_pool_2d"}
_SPATIAL = {**_POOLS, keras.layers.ZeroPadding2D: "pad", DepthToSpace: "depth_to_space"}
_RESIZES = {"nearest": "resize_nearest", "bilinear": "resize_bilinear"}
_RESIZERS = (keras.layers.Resizing, keras.layers.UpSampling2D)
_NOTHING = (keras.layers.Dropout,)
# These kinds only move values, so that their output has the integers of their input.
MOVES = ("max_pool_2d", "pad", "reshape", "resize_nearest", "depth_to_space")
# These kinds round, and their kernels have the same scale for input and output.
ONE_SCALE = ("average_pool_2d", "resize_bilinear")
ACTIVATIONS = {
    "linear": "none",
    "relu": "relu",
    "relu6": "relu6",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "hard_sigmoid": "hard_sigmoid",
    "softmax": "softmax",
}
# Settings of convolutions, each with the only value that integer kernels or this exporter support.
_ONLY = (("groups", 1), ("depth_multiplier", 1), ("dilation_rate", 1))
# Activations with an operation of their own. Its input must be a tensor of the model, so they need their own layer.
SEPARATE = ("hard_swish", "softmax")


@dataclasses.dataclass(eq=False)
class Site:
    """One computation of a model and its float output tensor.

    Args:
        layer: the Keras layer that computes it.
        name: unique among the sites.
        kind: "input", "conv_2d", "depthwise_conv_2d", "fully_connected", "add", "mul", "mean", "softmax", or one of
            `MOVES` and `ONE_SCALE`. A BatchNorm or an activation that no site before it can absorb is a depthwise
            convolution with a 1 x 1 kernel.
        inputs: the sites that it reads.
        edges: for each input the `Quantizer` in between, or None.
        shape: shape of its tensor in the file, without the batch axis; a globally pooled tensor keeps its 1 x 1 pixel.
        tensor: the Keras tensor after BatchNorm and activation.
        before: the Keras tensor before the activation.
        norm: the absorbed BatchNormalization layer, or None.
        activation: a value of `ACTIVATIONS`.
        stored: the model's 8-bit quantizer of `tensor`, or None.
        stored_before: the same of `before`, for h-swish.
        readers: the sites that read it.
        branched: whether its tensor, or a tensor on the way to it, is read several times. The site then absorbs no
            further layer.
    """

    layer: keras.layers.Layer
    name: str
    kind: str
    inputs: list["Site"]
    edges: list[Quantizer | None]
    shape: tuple[int, ...] = ()
    tensor: keras.KerasTensor | None = None
    before: keras.KerasTensor | None = None
    norm: keras.layers.Layer | None = None
    activation: str = "none"
    stored: Quantizer | None = None
    stored_before: Quantizer | None = None
    readers: list["Site"] = dataclasses.field(default_factory=list)
    branched: bool = False

    @property
    def channels(self) -> int:
        """Size of the last axis."""
        return self.shape[-1]


# A site that is read, and the quantizer between it and its reader, or None.
Read = tuple[Site, Quantizer | None]


def sites_of(model: keras.Model) -> list[Site]:
    """The `Site`s of a functional or Sequential model in topological order, the output's last.

    Raises:
        UnsupportedModelError: a layer or connection has no integer form. The message has its name and type.
    """
    nodes = nodes_of(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModelError(
            f"{model.name}: expected one input and one output, received {len(model.inputs)} and {len(model.outputs)}"
        )
    reader = _Reader(nodes, model.outputs[0])
    for node in nodes:
        reader.read(node)
    return reader.finished(model.outputs[0])


class _Reader:
    """Turns the layer calls of a model into its sites, one after another."""

    def __init__(self, nodes: Sequence[Any], output: keras.KerasTensor) -> None:
        self.uses = collections.Counter(id(t) for node in nodes for t in node.input_tensors)
        self.uses[id(output)] += 1
        self.calls = collections.Counter(id(node.operation) for node in nodes)
        self.names: collections.Counter[str] = collections.Counter()
        self.sites: list[Site] = []
        self.by_tensor: dict[int, Read] = {}

    def read(self, node: Any) -> None:
        layer, (tensor, *others) = node.operation, node.output_tensors
        if others:
            raise unsupported(layer, f"it has {1 + len(others)} outputs")
        if self.calls[id(layer)] > 1 and layer.weights and not isinstance(layer, Quantize):
            raise unsupported(layer, f"it is called {self.calls[id(layer)]} times")
        read = [self.by_tensor[id(t)] for t in node.input_tensors]
        site, edge = self._site(layer, read, tuple(tensor.shape[1:]))
        site.tensor = tensor
        site.branched |= self.uses[id(tensor)] > 1
        self.by_tensor[id(tensor)] = site, edge

    def finished(self, output: keras.KerasTensor) -> list[Site]:
        site, edge = self.by_tensor[id(output)]
        if edge is not None:
            raise UnsupportedModelError(f"{site.name}: expected an 8-bit output, its quantizer has {edge.bits} bits")
        for site in self.sites:
            site.before = site.tensor if site.before is None else site.before
            for read in site.inputs:
                read.readers.append(site)
        return self.sites

    def _new(self, layer: keras.layers.Layer, kind: str, read: Sequence[Read], shape: tuple[int, ...]) -> Site:
        count = self.names[layer.name]
        self.names[layer.name] += 1
        own = getattr(layer, "input_quantizer", None)
        edges = [edge if own is None else own for _, edge in read]
        if own is not None and any(edge is not None for _, edge in read):
            raise unsupported(layer, f"its input {read[0][0].name} is quantized twice, before it and by it")
        site = Site(layer, layer.name + (f"_{count}" if count else ""), kind, [s for s, _ in read], edges, shape)
        self.sites.append(site)
        return site

    def _site(self, layer: keras.layers.Layer, read: Sequence[Read], shape: tuple[int, ...]) -> Read:
        """The site that `layer` ends, either a new site or the absorbing site before it, and the quantizer after it."""
        if isinstance(layer, keras.layers.InputLayer):
            return self._new(layer, "input", [], shape), None
        (before, edge), *_ = read
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise unsupported(layer, f"data format {layer.data_format}, expected channels_last")
        if isinstance(layer, _NOTHING):
            return before, edge
        if isinstance(layer, Quantize):
            return self._quantize(layer, before, edge)
        if isinstance(layer, keras.layers.BatchNormalization):
            return self._norm(layer, read), None
        if isinstance(layer, keras.layers.Activation | keras.layers.ReLU | keras.layers.Softmax):
            return self._activation(layer, read)
        if type(layer) in CONVOLUTIONS:
            return self._convolution(layer, read, shape), None
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            return self._new(layer, "mean", read, (1, 1, before.channels)), None
        if type(layer) in _SUMS:
            return self._sum(layer, read), None
        if type(layer) in _SPATIAL:
            if _SPATIAL[type(layer)] in _POOLS.values() and getattr(layer, "padding", None) not in ("same", "valid"):
                raise unsupported(layer, f"padding {layer.padding}, expected same or valid")
            return self._new(layer, _SPATIAL[type(layer)], read, shape), None
        if isinstance(layer, _RESIZERS):
            return self._new(layer, _resize(layer), read, shape), None
        if isinstance(layer, _RESHAPES):
            if None in shape:
                raise unsupported(layer, f"its output is {shape}, expected known sizes")
            # A reshape of a single pixel changes only the axes, which needs no operation.
            alias = shape == before.shape or (_pixels(before.shape) == 1 and shape == (before.channels,))
            return (before, edge) if alias else (self._new(layer, "reshape", read, shape), None)
        raise unsupported(layer, "")

    def _quantize(self, layer: keras.layers.Layer, before: Site, edge: Quantizer | None) -> Read:
        if edge is not None:
            raise unsupported(layer, f"{before.name}, which it follows, is quantized already")
        whole = layer.quantizer.bits == 8 and not before.branched and before.kind != "input"
        if not whole or before.stored is not None:
            return before, layer.quantizer
        before.stored = layer.quantizer
        return before, None

    def _convolution(self, layer: keras.layers.Layer, read: Sequence[Read], shape: tuple[int, ...]) -> Site:
        kind, before = CONVOLUTIONS[type(layer)], read[0][0]
        if kind == "fully_connected" and len(shape) > 1:
            if len(shape) != 3:
                raise unsupported(layer, f"its input is {before.shape}, expected channels or an image")
            kind = "conv_2d"  # a 1 x 1 convolution
        activation = _activation(layer)
        for setting, only in _ONLY:
            received = getattr(layer, setting, only)
            if {*received} != {only} if isinstance(received, list | tuple) else received != only:
                raise unsupported(layer, f"{setting} {received}, expected {only}")
        if activation in SEPARATE:
            raise unsupported(
                layer, f"{activation} inside the layer: expected a separate layer after it, as tfqnas.quantize makes it"
            )
        site = self._new(layer, kind, read, shape)
        site.activation = activation
        return site

    def _sum(self, layer: keras.layers.Layer, read: Sequence[Read]) -> Site:
        kind, shapes = _SUMS[type(layer)], [site.shape for site, _ in read]
        if len(read) != 2:
            raise unsupported(layer, f"it reads {len(read)} tensors, expected 2")
        alike = len(shapes[0]) == len(shapes[1]) and all(
            a == b or (kind == "mul" and 1 in (a, b)) for a, b in zip(*shapes, strict=True)
        )
        if not alike:
            raise unsupported(layer, f"it reads tensors of {shapes[0]} and {shapes[1]}")
        # Height and width may be unknown only if both shapes are equal.
        return self._new(layer, kind, read, shapes[0] if shapes[0] == shapes[1] else np.broadcast_shapes(*shapes))

    def _norm(self, layer: keras.layers.Layer, read: Sequence[Read]) -> Site:
        (before, _) = read[0]
        if layer.axis not in (-1, len(layer.input.shape) - 1, [-1], [len(layer.input.shape) - 1]):
            raise unsupported(layer, f"axis {layer.axis}, expected the last one")
        if self._absorbs(*read[0], CONVOLUTIONS.values()) and before.norm is None and before.stored is None:
            before.norm = layer
            return before
        site = self._unit(layer, read)
        site.norm = layer
        return site

    def _activation(self, layer: keras.layers.Layer, read: Sequence[Read]) -> Read:
        before, edge = read[0]
        activation = _activation(layer)
        if activation == "none":
            return before, edge
        if activation == "softmax":
            site = self._new(layer, "softmax", read, before.shape)
            site.activation = activation
            return site, None
        fusing = (*CONVOLUTIONS.values(), *(("add", "mul") if activation in ("relu", "relu6") else ()))
        if self._absorbs(before, edge, fusing) and (before.stored is None or activation == "hard_swish"):
            before.before, before.stored_before, before.stored = before.tensor, before.stored, None
            before.activation = activation
            return before, None
        site = self._unit(layer, read)
        site.activation, site.before, site.stored_before = activation, before.tensor, before.stored
        return site, None

    def _absorbs(self, before: Site, edge: Quantizer | None, kinds: Collection[str]) -> bool:
        """Whether the site before can absorb a BatchNorm or an activation."""
        return edge is None and before.kind in kinds and not before.branched and before.activation == "none"

    def _unit(self, layer: keras.layers.Layer, read: Sequence[Read]) -> Site:
        before = read[0][0]
        if len(before.shape) != 3:
            raise unsupported(layer, f"it does not directly follow a Dense layer or a convolution but {before.name}")
        return self._new(layer, "depthwise_conv_2d", read, before.shape)


def _pixels(shape: tuple[int, ...]) -> int:
    return math.prod(n or 0 for n in shape[:-1])


def _resize(layer: keras.layers.Layer) -> str:
    if layer.interpolation not in _RESIZES:
        expected = ", ".join(sorted(_RESIZES))
        raise unsupported(layer, f"interpolation {layer.interpolation}, expected one of {expected}")
    for setting in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if getattr(layer, setting, False):
            raise unsupported(layer, f"{setting}, expected none")
    return _RESIZES[layer.interpolation]


def _activation(layer: keras.layers.Layer) -> str:
    if isinstance(layer, keras.layers.ReLU):
        kind = {None: "relu", 6.0: "relu6"}.get(layer.max_value)
        if kind is None or layer.negative_slope or layer.threshold:
            raise unsupported(layer, "a ReLU with other settings than max_value=6")
        return kind
    if isinstance(layer, keras.layers.Softmax):
        if layer.axis not in (-1, [-1]):
            raise unsupported(layer, f"axis {layer.axis}, expected the last one")
        return "softmax"
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ACTIVATIONS:
        raise unsupported(layer, f"activation {name}, expected one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def unsupported(layer: keras.Operation, why: str) -> UnsupportedModelError:
    """The error for a Keras layer or operation without an integer form; `why` may be empty."""
    return UnsupportedModelError(f"layer {layer.name} ({type(layer).__name__}): no integer form{why and ': '}{why}")


def streams_of(sites: list[Site]) -> dict[int, list[Site]]:
    """`{id(site): stream}`, where a stream is the list of sites whose 8-bit tensors must share one grid.

    An addition joins its inputs and its output; `ONE_SCALE` and `MOVES` join their input and output. Sites with a fixed
    grid (`has_fixed_grid`) are not joined with an addition.
    """
    stream = {id(site): [site] for site in sites}

    def join(one: Site, other: Site) -> None:
        first, second = stream[id(one)], stream[id(other)]
        if first is not second:
            first.extend(second)
            stream.update((id(site), first) for site in second)

    for site in sites:
        if site.kind in (*MOVES, *ONE_SCALE) and site.edges[0] is None:
            join(site.inputs[0], site)
    for site in sites:
        if site.kind == "add":
            for read in site.inputs:
                if not any(has_fixed_grid(member) for member in stream[id(read)]):
                    join(site, read)
    return stream


def has_fixed_grid(site: Site) -> bool:
    """Whether the grid of a site's tensor is given, as it is for pixels, gates, probabilities and quantized inputs."""
    given = site.kind in (*MOVES, *ONE_SCALE) and site.edges[0] is not None
    return given or site.kind in ("input", "softmax") or site.activation == "hard_sigmoid"


def is_summed(stream: Iterable[Site]) -> bool:
    """Whether an addition is among these sites."""
    return any(site.kind == "add" for site in stream)


def wanted(site: Site) -> list[Quantizer | None]:
    """The distinct quantizers through which readers take a site's tensor; None stands for its 8-bit grid."""
    found: dict[int, Quantizer | None] = {}
    for reader in site.readers:
        for read, edge in zip(reader.inputs, reader.edges, strict=True):
            if read is site:
                through = wanted(reader) if edge is None and reader.kind in MOVES else [edge]
                found |= {id(quantizer): quantizer for quantizer in through}
    return list(found.values()) or [None]
