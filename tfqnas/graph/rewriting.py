"""Puts quantizers into a Keras model."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfqnas.files import warn
from tfqnas.graph import grids
from tfqnas.graph.dead import dead_channels, silence
from tfqnas.graph.keras_internals import nodes_of
from tfqnas.graph.normal import normal_form, refuse_unusable
from tfqnas.graph.reading import sites_of
from tfqnas.graph.rebuilding import rebuilt
from tfqnas.graph.sites import CONVOLUTIONS, MOVES, Site
from tfqnas.layers import QuantConv2D, QuantConv2DTranspose, QuantDense, QuantDepthwiseConv2D, Quantize
from tfqnas.quantizers import Calibrated, MinMax, Quantizer, clone, initializing

_QUANTIZED: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {
    keras.layers.Conv2D: QuantConv2D,
    keras.layers.Conv2DTranspose: QuantConv2DTranspose,
    keras.layers.DepthwiseConv2D: QuantDepthwiseConv2D,
    keras.layers.Dense: QuantDense,
}
# The axis of a kernel's output channels, where it is not the last one.
_AXES: dict[type[keras.layers.Layer], int] = {QuantDepthwiseConv2D: 2, QuantConv2DTranspose: 2}


def quantize(
    model: keras.Model,
    weights: Quantizer | None = None,
    inputs: Quantizer | None = None,
    skip: str | Iterable[str] = (),
    end_bits: int | None = 8,
    integer_aware: bool = False,
) -> keras.Model:
    """A copy of a functional or Sequential Keras model with quantized layers and the same weights.

    The result is a functional model that trains with `compile` and `fit`, saves to `.keras` and can be exported. Call
    `tfqnas.initialize(model, images)` before its first use, since quantizers are initialised from images.

    Convolutions, depthwise convolutions and dense layers get a quantizer for their kernel and one for their input. A
    tensor that several of them read has one quantizer, in a `Quantize` layer. The first of these layers after the input
    and the last before the output have `end_bits` bits. The first have no input quantizer since pixels have 8 bits
    already. Activations that integer models compute separately (h-swish, softmax) move from inside a layer to a new
    layer after it.

    Args:
        model: functional or Sequential `keras.Model` of the layers and operations that `tfqnas.graph.kinds` reads and
            `tfqnas.graph.expansions` expands. The result is in the normal form (`tfqnas.graph.normal`).
        weights: prototype `Quantizer` of the kernels, such as `LSQ(bits=4)`, or None.
        inputs: prototype of the inputs, such as `LSQ(bits=4, signed=None)`, which is signed where its tensor is.
        skip: name or names of layers that keep float weights and inputs; integer models give them 8 bits.
        end_bits: bit width of the first and last layers, 2 to 16; None for that of all other layers.
        integer_aware: also put 8-bit quantizers (`Calibrated`) where else an integer model rounds: residual stream,
            squeeze-excite, pooling, input of h-swish, output. Weights without a quantizer get one as well (`MinMax`,
            per channel). Evaluation and finetuning then see what the exported file computes. Existing quantizers
            stay.

    Returns:
        `keras.Model` with the name of `model`.

    Raises:
        UnsupportedModelError: a layer or connection has no integer form. The message has its name and type.
        ValueError: no layer with weights to quantize has a name in `skip`, or `end_bits` is out of range.
    """
    if end_bits is not None and (not isinstance(end_bits, int) or not 2 <= end_bits <= 16):
        raise ValueError(f"end_bits: expected a whole number from 2 to 16, or None, received {end_bits!r}")
    skip = (skip,) if isinstance(skip, str) else skip
    refuse_unusable(model)
    normal = normal_form(model)
    if count := sum(int(dead.sum()) for dead in dead_channels(normal).values()):
        normal = rebuilt(normal)
        silence(normal)
        warn(f"{model.name}: {count} dead channels, whose weights are too small for integers, become zero")
    if weights is not None or inputs is not None:
        normal = _with_quantizers(normal, weights, inputs, skip, end_bits)
    if integer_aware:
        normal = _integer_aware(normal)
    return rebuilt(model) if normal is model else normal


def _with_quantizers(
    model: keras.Model, weights: Quantizer | None, inputs: Quantizer | None, skip: Iterable[str], end_bits: int | None
) -> keras.Model:
    sites = sites_of(model)
    chosen = {site.layer.name: site for site in sites if type(site.layer) in _QUANTIZED}
    if unknown := sorted(set(skip) - set(chosen)):
        raise ValueError(f"skip: no layer to quantize is called {', '.join(unknown)}; there are {', '.join(chosen)}")
    chosen = {name: site for name, site in chosen.items() if name not in skip}
    first, last = _ends(sites)
    weights, inputs = clone(weights), clone(inputs)

    def with_bits(prototype: Quantizer, site: Site) -> Quantizer:
        if end_bits is None or not (site in first or site in last):
            return prototype
        return prototype.with_bits(end_bits)

    # Of a layer that is called several times, the calls share its quantizer.
    calls: dict[str, list[int]] = {}
    for node in nodes_of(model):
        calls.setdefault(node.operation.name, []).append(id(node.input_tensors[0]) if node.input_tensors else 0)
    read = {name: tensors[0] if len(set(tensors)) == 1 else id(tensors) for name, tensors in calls.items()}
    # A tensor that several layers read with the same bits is quantized once, before the first of them.
    prototypes: dict[str, Quantizer] = {}
    readers: dict[tuple[int, int], list[str]] = {}
    for name, site in chosen.items():
        if inputs is not None and site not in first:
            prototypes[name] = with_bits(inputs, site)
            readers.setdefault((read[name], prototypes[name].bits), []).append(name)
    shared = {name: names for names in readers.values() if len(names) > 1 for name in names}
    quantized = {}

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if layer.name not in chosen:
            return None
        cls, own = _QUANTIZED[type(layer)], None if layer.name in shared else prototypes.get(layer.name)
        kernel = None if weights is None else with_bits(weights, chosen[layer.name])
        if kernel is not None:
            kernel = _within_int8(kernel).along(_AXES.get(cls, -1))  # the axis of per-channel scales
        return cls.from_config({**layer.get_config(), "weight_quantizer": kernel, "input_quantizer": own})

    def call(layer: Any, *args: Any, node: Any, **kwargs: Any) -> Any:
        if layer.name in shared:
            readers = tuple(shared[layer.name])
            if readers not in quantized:
                quantize = Quantize(prototypes[layer.name], name=f"{readers[0]}_input")
                quantized[readers] = quantize(args[0])
            args = (quantized[readers],)
        return layer(*args, **kwargs)

    model = rebuilt(model, replace, call)
    with initializing():
        for name in chosen if weights is not None else ():
            layer = model.get_layer(name)
            layer.quantized_kernel(layer.kernel)
    return model


def _within_int8(prototype: Quantizer) -> Quantizer:
    """A prototype of 8-bit weights without the code -128, which the negative factor of a BatchNorm would make 128."""
    chosen = "narrow_range" in inspect.signature(type(prototype)).parameters
    if prototype.bits != 8 or not prototype.signed or not chosen or prototype.narrow_range:
        return prototype
    return type(prototype).from_config({**prototype.get_config(), "narrow_range": True})


def _ends(sites: list[Site]) -> tuple[list[Site], list[Site]]:
    """`(first, last)`: convolutions and dense layers with no other of them before, and with no other after."""

    def with_none(sites: list[Site], neighbours: Callable[[Site], list[Site]]) -> list[Site]:
        met: dict[int, bool] = {}  # id(site) -> whether it or a site on the way to it is one
        found = []
        for site in sites:
            before = any(met[id(n)] for n in neighbours(site))
            met[id(site)] = before or _has_kernel(site)
            if _has_kernel(site) and not before:
                found.append(site)
        return found

    return with_none(sites, lambda s: s.inputs), with_none(sites[::-1], lambda s: s.readers)


def _has_kernel(site: Site) -> bool:
    return site.kind in CONVOLUTIONS and hasattr(site.layer, "kernel")


def _integer_aware(model: keras.Model) -> keras.Model:
    sites, groups = grids.arranged(sites_of(model))
    behind: dict[int, Quantize] = {}  # id of a Keras tensor -> the new layer after it
    between: dict[tuple[int, str], Quantize] = {}  # (tensor, name of its reader) -> the new layer in between
    shared: dict[int, Quantize] = {}  # group -> its layer

    def stored(name: str, **settings: Any) -> Quantize:
        return Quantize(Calibrated(bits=8, method="mse", **settings), name=f"{name}_stored")

    for site in sites:
        group = groups[id(site)]
        if site.kind in ("input", "constant", *MOVES) or group.quantizer is not None:
            continue  # these round nothing, or have a quantizer already
        if site.fixed is not None:
            behind[id(site.tensor)] = stored(site.name, fixed=site.fixed)
        elif (swish := grids.before_hard_swish(site)) is not None:
            # h-swish is zero below -3, and an unsigned quantizer clips its output for inputs below zero.
            quantizer = groups[id(swish)].quantizer
            low = 0.0 if quantizer is not None and not quantizer.below_zero else -3.0
            behind[id(site.tensor)] = stored(site.name, bounds=(low, None))
        elif group.is_calibrated:
            layer = shared.setdefault(id(group), stored(group.members[0].name))
            if site.kind == "requantize" and site.tensor is None:
                between[id(site.inputs[0].tensor), site.readers[0].layer.name] = layer
            else:
                behind[id(site.tensor)] = layer
    return _inserted(model, behind, between)


def _inserted(model: keras.Model, behind: dict[int, Quantize], between: dict[tuple[int, str], Quantize]) -> keras.Model:
    """A copy of a model with 8-bit weights, and new layers after some tensors and between some and their readers."""

    def call(layer: Any, *args: Any, node: Any, **kwargs: Any) -> Any:
        if any(name == node.operation.name for _, name in between):
            sources = iter(node.input_tensors)  # in the order of the tensors among the arguments

            def through(x: Any) -> Any:
                if not isinstance(x, keras.KerasTensor):
                    return x
                new = between.get((id(next(sources)), node.operation.name))
                return x if new is None else new(x)

            args, kwargs = keras.tree.map_structure(through, (args, kwargs))
        results = layer(*args, **kwargs)
        flat = [
            behind[id(old)](new) if id(old) in behind else new
            for old, new in zip(node.output_tensors, keras.tree.flatten(results), strict=True)
        ]
        return keras.tree.pack_sequence_as(results, flat)

    return rebuilt(model, _with_8_bit_weights, call)


def _with_8_bit_weights(layer: Any) -> keras.layers.Layer | None:
    cls = _QUANTIZED.get(type(layer), type(layer))
    if cls not in _QUANTIZED.values() or getattr(layer, "weight_quantizer", None) is not None:
        return None
    return cls.from_config({**layer.get_config(), "weight_quantizer": MinMax(bits=8, axis=_AXES.get(cls, -1))})
