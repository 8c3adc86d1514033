"""Factors and offsets: normalization by statistics, rescaling, sums and products with constants."""

import keras
import numpy as np

from tfqnas.graph.kinds.arithmetic import of_two
from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.sites import Affine, Site
from tfqnas.layers import ScaleOffset


@reads(keras.layers.BatchNormalization)
def _batch_norm(reader: Reader, call: Call) -> Site:
    axis = call.layer.axis
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in (-1, call.axes - 1):
        raise call.refuse(f"axis {axis}, expected the last one")
    return reader.affine(call, call.site, Affine(call.layer))


@reads(ScaleOffset)
def _scale_offset(reader: Reader, call: Call) -> Site:
    return reader.affine(call, call.site, Affine(call.layer))


@reads(keras.layers.Rescaling)
def _rescaling(reader: Reader, call: Call) -> Site:
    return _linear(reader, call, call.site, call.layer.scale, call.layer.offset)


@reads(keras.layers.Normalization)
def _normalization(reader: Reader, call: Call) -> Site:
    layer = call.layer
    if (mean := getattr(layer, "mean", None)) is None:
        raise call.refuse("its mean and variance are unknown, call `adapt` before")
    mean = np.asarray(mean, np.float64)
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.config.epsilon())
    if layer.invert:
        return _linear(reader, call, call.site, deviation, mean)
    return _linear(reader, call, call.site, 1 / deviation, -mean / deviation)


@reads("Add", "Subtract", "Multiply", "TrueDivide", "Divide")
def _arithmetic(reader: Reader, call: Call) -> Site:
    """Of two tensors, or of a tensor and a constant."""
    kind = type(call.layer).__name__
    one, other = (call.arguments[name] for name in ("x1", "x2"))
    if len(call.sites) == 2:
        if kind in ("TrueDivide", "Divide"):
            raise call.refuse("a quotient of two tensors")
        return of_two(reader, call, {"Add": "add", "Subtract": "sub", "Multiply": "mul"}[kind])
    first = isinstance(one, Site)
    site, value = call.site, np.asarray(other if first else one, np.float64)
    if kind == "Add":
        return _linear(reader, call, site, 1.0, value)
    if kind == "Subtract":
        return _linear(reader, call, site, *((1.0, -value) if first else (-1.0, value)))
    if kind == "Multiply":
        return _linear(reader, call, site, value, 0.0)
    if not first:
        raise call.refuse("a quotient with a tensor below")
    return _linear(reader, call, site, 1 / value, 0.0)


@reads("Negative")
def _negative(reader: Reader, call: Call) -> Site:
    return _linear(reader, call, call.site, -1.0, 0.0)


def _linear(reader: Reader, call: Call, site: Site, factor: object, offset: object) -> Site:
    """`factor * x + offset` for numbers and arrays that broadcast to the tensor."""
    sizes = []
    for values in (factor, offset):
        array = np.asarray(values, np.float64)
        if not np.isfinite(array).all():
            raise call.refuse("its constants are not finite")
        sizes.append(array.reshape(()) if array.size == 1 else array)
    factor, offset = sizes
    if all(array.size in (1, *site.shape[-1:]) and array.size == np.prod(array.shape[-1:]) for array in sizes):
        flat = [float(array) if array.size == 1 else array.reshape(-1) for array in sizes]
        return reader.affine(call, site, Affine(None, *flat))
    for kind, values, neutral in (("mul", factor, 1.0), ("add", offset, 0.0)):
        if not (values == neutral).all():
            if values.ndim == len(site.shape) + 1 and values.shape[0] != 1:
                raise call.refuse("a constant that differs between the examples of a batch")
            site = reader.new(call, kind, [site, reader.constant(call, values)], site.shape)
    return site
