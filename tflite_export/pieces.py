"""Cuts an `IntGraph` into pieces that run alone, and adapts graphs to images of another size.

Latency tables are built from measured pieces (`tfqnas latency-table`).
"""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.ops.common import margins


def cut(graph: IntGraph, layers: Iterable[str]) -> list[IntGraph]:
    """Cuts a graph after some of its layers, into `IntGraph`s that together compute the same.

    The product that brings a layer's 8-bit output to the few bits of a reader belongs to the reader's piece.

    Args:
        graph: `IntGraph`.
        layers: names of Keras layers, in order; a piece ends after each.

    Returns:
        A list of `IntGraph`, one more than there are layers.

    Raises:
        ValueError: a layer is missing, or a piece would read more than the output of the piece before.
    """
    edges = [graph.input, *(boundary(graph, layer) for layer in layers), graph.output]
    return [_between(graph, *ends) for ends in itertools.pairwise(edges)]


def boundary(graph: IntGraph, layer: str) -> str:
    """The name of a layer's output tensor before it is requantized for readers with fewer bits.

    Raises:
        ValueError: no operation belongs to the layer.
    """
    ops = [op for op in graph.ops if op.source == layer]
    while len(ops) > 1 and _is_requantization(graph, ops[-1]):
        ops.pop()
    if not ops:
        raise ValueError(f"layer {layer}: no operation of the graph computes it")
    return ops[-1].outputs[0]


def _is_requantization(graph: IntGraph, op: IntOp) -> bool:
    return op.kind == "mul" and bool(graph.constants(op))


def _between(graph: IntGraph, first: str, last: str) -> IntGraph:
    """The piece that computes the activation `last` from the activation `first`."""
    wanted, ops = {last}, []
    for op in reversed(graph.ops):
        if wanted & set(op.outputs) and first not in op.outputs:
            wanted.update(op.inputs)
            ops.append(op)
    made = {name for op in ops for name in op.outputs}
    foreign = [name for name in wanted - made - {first} if graph.tensors[name].data is None]
    if foreign or not ops:
        raise ValueError(f"{last} is computed from {', '.join(sorted(foreign)) or 'nothing'}, expected {first} alone")
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in wanted | {first}}
    return IntGraph(tensors, tuple(reversed(ops)), (first,), (last,), graph.normalizations)


def resized(graph: IntGraph, size: tuple[int, int]) -> IntGraph:
    """The graph for another input size, with the same operations on activations of other shapes.

    Args:
        graph: `IntGraph`.
        size: (height, width) in pixels.

    Raises:
        ValueError: an operation is bound to its input size, such as a dense layer that reads pixels.
    """
    tensors = dict(graph.tensors)
    changed = dataclasses.replace(graph, tensors=tensors)

    def reshape(name: str, shape: Iterable[int]) -> None:
        tensors[name] = dataclasses.replace(tensors[name], shape=tuple(int(n) for n in shape))

    reshape(graph.input, (*size, *tensors[graph.input].shape[2:]))
    for op in graph.ops:
        before, after = graph.tensors[op.inputs[0]].shape, tensors[op.inputs[0]].shape
        if op.kind in _SHAPES:
            reshape(op.outputs[0], _SHAPES[op.kind](changed, op, after))
        elif before != after and op.kind not in _OF_ONE_SIZE:
            raise ValueError(f"{op.source}: its {op.kind} reads {before}, and cannot read {after}")
    return changed


def _window(graph: IntGraph, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output shape of a convolution or a pool."""
    weights = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 else None
    sizes = zip(shape[:2], weights[1:3] if weights else op.options["size"], op.options["strides"], strict=True)
    spatial = [margins(size, kernel, stride, op.options["padding"])[2] for size, kernel, stride in sizes]
    return *spatial, graph.tensors[op.outputs[0]].shape[2]


def _padded(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n + sum(pair) for n, pair in zip(shape, op.options["paddings"], strict=True))


def _spread(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    size = op.options["block_size"]
    return shape[0] * size, shape[1] * size, shape[2] // size**2


def _alike(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the first input; the second may be a gate or a constant."""
    return shape


_SHAPES = {
    **dict.fromkeys(("conv_2d", "depthwise_conv_2d", "max_pool_2d", "average_pool_2d"), _window),
    **dict.fromkeys(("mul", "add", "hard_swish", "softmax", "quantize", "dequantize"), _alike),
    "pad": _padded,
    "depth_to_space": _spread,
}
# The output shape of these does not depend on the input's size.
_OF_ONE_SIZE = ("mean", "resize_nearest", "resize_bilinear")


def nothing() -> IntGraph:
    """The smallest graph, a product of one integer. Its latency is the overhead of any call."""
    one = np.array([1], np.float32)
    tensors = [
        IntTensor("x", (1, 1, 1), one),
        IntTensor("one", (1,), one, data=np.ones(1, np.int8)),
        IntTensor("y", (1, 1, 1), one),
    ]
    op = IntOp("mul", ("x", "one"), ("y",), {"activation": "none"})
    return IntGraph({tensor.name: tensor for tensor in tensors}, (op,), ("x",), ("y",))
