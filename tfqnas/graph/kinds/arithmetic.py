"""Sums, products, means and matrix products of tensors."""

from typing import Any

import keras
import numpy as np

from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.sites import Site

_LAYERS = {keras.layers.Add: "add", keras.layers.Subtract: "sub", keras.layers.Multiply: "mul"}


@reads(*_LAYERS)
def _of_two(reader: Reader, call: Call) -> Site:
    if len(call.sites) != 2:
        raise call.refuse(f"it reads {len(call.sites)} tensors, expected 2")
    return of_two(reader, call, _LAYERS[type(call.layer)])


def of_two(reader: Reader, call: Call, kind: str) -> Site:
    """An operation on two tensors of equally many axes."""
    shapes = [site.shape for site in call.sites]
    if len(shapes[0]) != len(shapes[1]):
        raise call.refuse(f"it reads tensors of {shapes[0]} and {shapes[1]}, expected equally many axes")
    return reader.new(call, kind)


@reads("Square", "Power")
def _square(reader: Reader, call: Call) -> Site:
    if type(call.layer).__name__ == "Power" and call.arguments.get("x2") not in (2, 2.0):
        raise call.refuse("a power other than 2")
    return reader.new(call, "mul", [call.site, call.site])


@reads("Mean", "Sum", "Max")
def _reduced(reader: Reader, call: Call) -> Site:
    layer, kind = call.layer, {"Mean": "mean", "Sum": "sum", "Max": "reduce_max"}[type(call.layer).__name__]
    axes = range(1, call.axes) if layer.axis is None else np.atleast_1d(layer.axis).tolist()
    axes = tuple(sorted(call.axis(axis) for axis in axes))
    if layer.axis is None:
        raise call.refuse("it works along the axis of the batch")
    return reduced(reader, call, kind, axes, bool(layer.keepdims))


@reads(keras.layers.GlobalAveragePooling2D)
def _global_average(reader: Reader, call: Call) -> Site:
    return reduced(reader, call, "mean", (1, 2), call.layer.keepdims)


@reads(keras.layers.GlobalMaxPooling2D)
def _global_max(reader: Reader, call: Call) -> Site:
    return reduced(reader, call, "reduce_max", (1, 2), call.layer.keepdims)


def reduced(reader: Reader, call: Call, kind: str, axes: tuple[int, ...], keep_dims: bool) -> Site:
    """One value of several along these axes, the batch being axis 0; the operation keeps the axes."""
    shape = [1 if place + 1 in axes else size for place, size in enumerate(call.site.shape)]
    if kind == "reduce_max" and axes == (1, 2) and None not in call.site.shape[:2]:
        size = call.site.shape[:2]  # XNNPACK has this kernel
        site = reader.new(call, "max_pool_2d", shape=shape, size=size, strides=size, padding="valid")
    else:
        options: dict[str, Any] = (
            {} if kind == "mean" and axes == (1, 2) and len(shape) == 3 else {"axes": axes, "keep_dims": True}
        )
        site = reader.new(call, kind, shape=shape, **options)
    return site if keep_dims else reader.reshaped(call, site, call.shape)


@reads("Matmul")
def _matmul(reader: Reader, call: Call) -> Site:
    if len(call.sites) != 2:
        raise call.refuse("a matrix product with a constant, expected a Dense layer")
    if len(call.sites[0].shape) != len(call.sites[1].shape) or len(call.site.shape) < 2:
        raise call.refuse(f"it reads tensors of {call.sites[0].shape} and {call.sites[1].shape}")
    return reader.new(call, "batch_matmul", adj_x=False, adj_y=False)
