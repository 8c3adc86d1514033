"""Pooling, padding, cropping and resizing of images."""

import keras

from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.sites import Site

_POOLS = {keras.layers.MaxPooling2D: "max_pool_2d", keras.layers.AveragePooling2D: "average_pool_2d"}
_RESIZES = {"nearest": "resize_nearest", "bilinear": "resize_bilinear"}


@reads(*_POOLS)
def _pool(reader: Reader, call: Call) -> Site:
    layer = call.layer
    if layer.padding not in ("same", "valid"):
        raise call.refuse(f"padding {layer.padding}, expected same or valid")
    size, strides = tuple(layer.pool_size), tuple(layer.strides)
    return reader.new(call, _POOLS[type(layer)], size=size, strides=strides, padding=layer.padding)


@reads(keras.layers.ZeroPadding2D)
def _zero_padding(reader: Reader, call: Call) -> Site:
    return reader.new(call, "pad", paddings=(*map(tuple, call.layer.padding), (0, 0)))


@reads("Pad")
def _pad(reader: Reader, call: Call) -> Site:
    layer = call.layer
    first, *paddings = (tuple(map(int, pair)) for pair in layer.pad_width)
    if first != (0, 0):
        raise call.refuse("it works along the axis of the batch")
    if layer.mode == "constant":
        if call.arguments.get("constant_values"):
            raise call.refuse(f"constant_values {call.arguments['constant_values']}, expected 0")
        return reader.new(call, "pad", paddings=tuple(paddings))
    if layer.mode not in ("reflect", "symmetric"):
        raise call.refuse(f"mode {layer.mode}, expected constant, reflect or symmetric")
    return reader.new(call, "mirror_pad", paddings=tuple(paddings), mode=layer.mode)


@reads(keras.layers.Cropping2D)
def _cropping(reader: Reader, call: Call) -> Site:
    (top, _), (left, _) = call.layer.cropping
    return sliced(reader, call, (top, left, 0), call.shape)


def sliced(reader: Reader, call: Call, begin: tuple[int, ...], size: tuple[int, ...], name: str | None = None) -> Site:
    """A part of the first input, from `begin` on; the input itself if that is all of it."""
    if None in size:
        raise call.refuse(f"its output is {size}, expected known sizes")
    if size == call.site.shape:
        return call.site
    return reader.new(call, "slice", [call.site], size, name, begin=begin, size=size)


@reads(keras.layers.Resizing, keras.layers.UpSampling2D)
def _resize(reader: Reader, call: Call) -> Site:
    layer = call.layer
    if layer.interpolation not in _RESIZES:
        expected = ", ".join(sorted(_RESIZES))
        raise call.refuse(f"interpolation {layer.interpolation}, expected one of {expected}")
    for setting in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        if getattr(layer, setting, False):
            raise call.refuse(f"{setting}, expected none")
    return reader.new(call, _RESIZES[layer.interpolation])
