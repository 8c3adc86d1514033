"""An IntGraph cut into pieces that can be run alone, and graphs for images of another size.

Latency tables are made of measured pieces (`tools/latency_table.py`).
"""

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.reference import margins


def cut(graph: IntGraph, layers: Iterable[str]) -> list[IntGraph]:
    """The graph as pieces, each from one activation to another: IntGraphs that compute, one after another, the same.

    The product that brings a layer's 8-bit output to the few bits of a reader belongs to the reader's piece.

    Args:
        graph: `IntGraph`. layers: names of Keras layers, in order; a piece ends behind each.

    Returns:
        list of `IntGraph`, one more than layers.

    Raises:
        ValueError: a layer is not there, or a piece would read more than its predecessor's output.
    """
    edges = [graph.input, *(boundary(graph, layer) for layer in layers), graph.output]
    return [_between(graph, *ends) for ends in itertools.pairwise(edges)]


def boundary(graph: IntGraph, layer: str) -> str:
    """The name of a layer's tensor from which all other versions of it are made, such as those of fewer bits."""
    ops = [op for op in graph.ops if op.source == layer]
    while len(ops) > 1 and _is_requantization(graph, ops[-1]):
        ops.pop()
    if not ops:
        raise ValueError(f"layer {layer}: no operation of the graph computes it")
    return ops[-1].outputs[0]


def _is_requantization(graph: IntGraph, op: IntOp) -> bool:
    return op.kind == "mul" and bool(graph.constants(op))


def _between(graph: IntGraph, first: str, last: str) -> IntGraph:
    """The piece that makes the activation `last` of `first`."""
    wanted, ops = {last}, []
    for op in reversed(graph.ops):
        if wanted & set(op.outputs) and first not in op.outputs:
            wanted.update(op.inputs)
            ops.append(op)
    made = {name for op in ops for name in op.outputs}
    foreign = [name for name in wanted - made - {first} if graph.tensors[name].data is None]
    if foreign or not ops:
        raise ValueError(f"{last} is computed of {', '.join(sorted(foreign)) or 'nothing'}, expected {first} alone")
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in wanted | {first}}
    return IntGraph(tensors, tuple(reversed(ops)), first, last, graph.normalization)


def resized(graph: IntGraph, size: tuple[int, int]) -> IntGraph:
    """The graph for an input of another height and width: the same operations on activations of other shapes.

    Args:
        graph: `IntGraph`. size: (height, width).

    Raises:
        ValueError: at an operation that knows one size only, such as a dense layer that reads pixels.
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
    """The shape behind a convolution or a pool."""
    weights = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 else None
    sizes = zip(shape[:2], weights[1:3] if weights else op.options["size"], op.options["strides"], strict=True)
    spatial = [margins(size, kernel, stride, op.options["padding"])[2] for size, kernel, stride in sizes]
    return *spatial, graph.tensors[op.outputs[0]].shape[2]


def _padded(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    return *(n + sum(pair) for n, pair in zip(shape[:2], op.options["paddings"], strict=True)), shape[2]


def _spread(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    size = op.options["block_size"]
    return shape[0] * size, shape[1] * size, shape[2] // size**2


def _alike(_: object, op: IntOp, shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of the first input; a gate or a constant that multiplies it is the second."""
    return shape


_SHAPES = {
    **dict.fromkeys(("conv_2d", "depthwise_conv_2d", "max_pool_2d", "average_pool_2d"), _window),
    **dict.fromkeys(("mul", "add", "hard_swish", "softmax", "quantize", "dequantize"), _alike),
    "pad": _padded,
    "depth_to_space": _spread,
}
# Their output has one shape whatever the input has.
_OF_ONE_SIZE = ("mean", "resize_nearest", "resize_bilinear")


def nothing() -> IntGraph:
    """The smallest graph: one product of one integer. What it takes is what a call costs whatever it computes."""
    one = np.array([1], np.float32)
    tensors = [
        IntTensor("x", (1, 1, 1), one),
        IntTensor("one", (1,), one, data=np.ones(1, np.int8)),
        IntTensor("y", (1, 1, 1), one),
    ]
    op = IntOp("mul", ("x", "one"), ("y",), {"activation": "none"})
    return IntGraph({tensor.name: tensor for tensor in tensors}, (op,), "x", "y")
