"""What only moves values: reshapes, transpositions, slices, concatenations, and layers that do nothing in use."""

import math
from typing import Any

import keras

from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.kinds.windows import sliced
from tfqnas.graph.sites import Site
from tfqnas.layers import DepthToSpace, Quantize

_layers = keras.layers
# They change a model in training only.
_NOTHING = [name for name in dir(_layers) if name.startswith("Random") and name != "RandomCrop"]
_NOTHING += ["ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity"]
_NOTHING += ["SpatialDropout1D", "SpatialDropout2D", "AugMix", "AutoContrast", "CutMix", "MixUp", "RandAugment"]


@reads(*(getattr(_layers, name) for name in _NOTHING if hasattr(_layers, name)), "Identity", "StopGradient")
def _nothing(reader: Reader, call: Call) -> Site:
    return call.site


@reads("Cast")
def _cast(reader: Reader, call: Call) -> Site:
    if not keras.backend.is_float_dtype(call.outputs[0].dtype):
        raise call.refuse(f"type {call.outputs[0].dtype}, expected float")
    return call.site


@reads(Quantize)
def _quantize(reader: Reader, call: Call) -> Site:
    site = reader.new(call, "requantize")
    site.quantizer = call.layer.quantizer
    return site


@reads(_layers.Reshape, _layers.Flatten, _layers.RepeatVector, "Reshape", "Squeeze", "ExpandDims", "Ravel")
def _reshape(reader: Reader, call: Call) -> Site:
    if isinstance(call.layer, _layers.RepeatVector):
        return _joined(reader, call, [reader.reshaped(call, call.site, (1, *call.site.shape))] * call.layer.n, 1)
    if call.outputs[0].shape[0] is not None:
        raise call.refuse(f"its output is {call.outputs[0].shape}, expected the axis of the batch first")
    return reader.reshaped(call, call.site, call.shape)


@reads(_layers.Permute, "Transpose", "Swapaxes", "Moveaxis")
def _transpose(reader: Reader, call: Call) -> Site:
    layer, kind, axes = call.layer, type(call.layer).__name__, call.axes
    places = list(range(axes))
    if kind == "Permute":
        perm = [0, *layer.dims]
    elif kind == "Transpose":
        perm = places[::-1] if layer.axes is None else [axis % axes for axis in layer.axes]
    elif kind == "Swapaxes":
        one, other = layer.axis1 % axes, layer.axis2 % axes
        perm = places
        perm[one], perm[other] = perm[other], perm[one]
    else:
        pair = ([v] if isinstance(v, int) else v for v in (layer.source, layer.destination))
        source, target = ([x % axes for x in places] for places in pair)
        perm = [place for place in places if place not in source]
        for to, place in sorted(zip(target, source, strict=True)):
            perm.insert(to, place)
    if perm[0] != 0:
        raise call.refuse("it moves the axis of the batch")
    if sum(size != 1 for size in call.site.shape) < 2 or perm == list(range(axes)):
        return reader.reshaped(call, call.site, call.shape)
    return reader.new(call, "transpose", perm=tuple(perm))


@reads(_layers.Concatenate, "Concatenate", "Stack")
def _concatenate(reader: Reader, call: Call) -> Site:
    if len(call.sites) < len(keras.tree.flatten(next(iter(call.arguments.values())))):
        raise call.refuse("it joins a tensor and a constant")
    sites, axis = call.sites, call.axis(call.layer.axis, len(call.shape) + 1)
    if type(call.layer).__name__ == "Stack":
        shape = [*call.site.shape]
        shape.insert(axis - 1, 1)
        sites = [reader.reshaped(call, site, shape) for site in sites]
    return _joined(reader, call, sites, axis)


def _joined(reader: Reader, call: Call, sites: list[Site], axis: int) -> Site:
    return sites[0] if len(sites) == 1 else reader.new(call, "concatenation", sites, axis=axis)


@reads("Split", "Unstack")
def _split(reader: Reader, call: Call) -> list[Site]:
    axis, begin, parts = call.axis(call.layer.axis), [0] * (call.axes - 1), []
    for place, tensor in enumerate(call.outputs):
        size = list(call.site.shape)
        size[axis - 1] = tensor.shape[axis] if type(call.layer).__name__ == "Split" else 1
        part = sliced(reader, call, tuple(begin), tuple(size), f"{call.layer.name}_{place}")
        parts.append(reader.reshaped(call, part, tensor.shape[1:]))
        begin[axis - 1] += size[axis - 1]
    return parts


@reads("GetItem")
def _get_item(reader: Reader, call: Call) -> Site:
    """`x[:, 1:-1, ::2, 0]`, with slices, whole numbers, `...` and new axes."""
    key = call.arguments["key"]
    key = list(key) if isinstance(key, tuple) else [key]
    count = sum(k is not None and k is not Ellipsis for k in key)
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [slice(None)] * (call.axes - count)
    if not key or key[0] != slice(None):
        raise call.refuse("it takes a part of the batch")
    sizes, site, starts, ends, steps = iter(call.site.shape), call.site, [], [], []
    for k in key[1:]:
        if k is None:
            continue
        size = next(sizes)
        if size is None and k == slice(None):
            raise call.refuse(f"its input is {call.site.shape}, expected known sizes")
        if isinstance(k, int):
            k = slice(k % size, k % size + 1)
        if not isinstance(k, slice):
            raise call.refuse(f"an index of type {type(k).__name__}, expected slices and whole numbers")
        start, end, step = k.indices(size)
        starts.append(start)
        ends.append(end)
        steps.append(step)
    rest = list(sizes)
    starts, ends, steps = starts + [0] * len(rest), ends + rest, steps + [1] * len(rest)
    return reader.reshaped(call, _strided(reader, call, site, starts, ends, steps), call.shape)


def _strided(reader: Reader, call: Call, site: Site, starts: list[Any], ends: list[Any], steps: list[Any]) -> Site:
    shape = tuple(len(range(*part)) for part in zip(starts, ends, steps, strict=True))
    if 0 in shape:
        raise call.refuse("nothing is left of its input")
    if all(step == 1 for step in steps):
        return sliced(reader, call, tuple(starts), shape)
    turned = [place for place, step in enumerate(steps) if step < 0]
    if not turned:
        options: dict[str, Any] = {"begin": tuple(starts), "end": tuple(ends), "strides": tuple(steps)}
        return reader.new(call, "strided_slice", [site], shape, **options)
    (axis, *more), count = turned, math.prod(shape[axis] for axis in turned)
    if more or count > 16 or any(step != 1 for place, step in enumerate(steps) if place != axis):
        raise call.refuse("steps backwards through more than one axis of 16")
    parts = []
    for place in range(starts[axis], ends[axis], steps[axis]):
        size = [*shape]
        size[axis] = 1
        begin = tuple(place if i == axis else start for i, start in enumerate(starts))
        parts.append(sliced(reader, call, begin, tuple(size), f"{call.layer.name}_{place}"))
    return _joined(reader, call, parts, axis + 1)


@reads(DepthToSpace)
def _depth_to_space(reader: Reader, call: Call) -> Site:
    return reader.new(call, "depth_to_space", block_size=call.layer.block_size)
