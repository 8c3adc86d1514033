"""Removes ties, which are accumulators whose requantization lands on a half. CPUs round them differently.

x86-64 rounds a half to even, ARM64 rounds it up, and one step of difference cascades. All arithmetic is float32, so
computing the requantization decides whether an accumulator ties. Scales are moved a little until nothing ties. The
scale that moves is the weights' in a convolution (channel by channel), the constant's or the gate's in a product, and
the output's in a mean.

Learned steps of input quantizers stay as they are to the bit; steps of weights move by at most 3e-4. In networks with
learned steps ties may therefore remain in two cases: for accumulators worth less than a few ten-thousandths of a step,
where one in a million ties at any scale, and in products and means whose movable scale belongs to an addition.
`remaining` names such layers. None were found in random and trained networks of our spaces.
"""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.registry import OPERATIONS, ratios, rounds_ties

# A move is one spacing of float32, at most 1.2e-7 of the scale, so all moves together are at most 3e-4. The slowest
# channel of the largest MobileNetV3, in a gate, needs 4e-5. After 48 tries a quarter of its gates' channels still tied.
_TRIES = 2400


def has_ties(graph: IntGraph, op: IntOp, among: np.ndarray | None = None) -> np.ndarray:
    """Whether an accumulator exists that `op` requantizes to a half.

    Args:
        graph: `IntGraph`.
        op: one of its operations.
        among: bool (channels,), the channels to examine; None for all.

    Returns:
        bool (1,) or (channels,), False for channels that were not examined.
    """
    operation = OPERATIONS[op.kind]
    if operation.steps is not None:
        steps = operation.steps(graph, op)
        inside = (steps > -129) & (steps < 128)
        return (inside & (np.abs(steps - np.floor(steps) - 0.5) <= operation.margin)).any(keepdims=True)
    ratio, halves = ratios(graph, op), _halves(graph, op)
    if among is None:
        return _ties(ratio, *halves)
    found = np.zeros(among.shape, bool)
    found[among] = _ties(ratio[among], *halves)
    return found


def _halves(graph: IntGraph, op: IntOp) -> tuple[int, int]:
    """The lowest and the highest step of the output, counted from its zero point."""
    low, high = limits(graph, op)
    zero = graph.tensors[op.outputs[0]].zero_point
    return low - zero, high - zero


def _ties(ratio: np.ndarray, low: int, high: int) -> np.ndarray:
    ratio = np.asarray(ratio, np.float32)[:, np.newaxis, np.newaxis]
    half = np.arange(low - 1, high + 1, dtype=np.float64) + 0.5
    nearest = np.rint(half[:, np.newaxis] / ratio.astype(np.float64))
    # The integers whose product rounds to a half form an interval around half / ratio, so three candidates suffice.
    candidates = nearest + np.arange(-1, 2)
    products = candidates.astype(np.float32) * ratio
    return (products == half.astype(np.float32)[:, np.newaxis]).any(axis=(1, 2))


def remaining(graph: IntGraph) -> dict[str, int]:
    """`{layer: number of channels in which an accumulator ties}`, without layers where none does."""
    counts = {op.source: int(has_ties(graph, op).sum()) for op in graph.ops if rounds_ties(graph, op)}
    return {layer: count for layer, count in counts.items() if count}


def without(graph: IntGraph) -> IntGraph:
    """The graph with its ties removed where possible. Scales move by at most 3e-4 of their value, most by 1e-7."""
    tensors = dict(graph.tensors)
    moved = dataclasses.replace(graph, tensors=tensors)
    alike = _with_one_grid(graph)
    movable = [op for op in graph.ops if rounds_ties(graph, op) and _may_move(graph, op, alike)]
    around = collections.defaultdict(list)  # name of a tensor -> operations whose ties depend on its scale
    for op in movable:
        for name in (*op.inputs, *op.outputs):
            around[name].append(op)
    pending: dict[int, tuple[IntOp, np.ndarray | None]]
    pending = {id(op): (op, None) for op in movable}  # with the channels to examine, None for all
    for _ in range(_TRIES):
        tied = [(op, ties) for op, among in pending.values() if (ties := has_ties(moved, op, among)).any()]
        if not tied:
            break
        pending = {id(op): (op, ties) for op, ties in tied}
        for op, ties in tied:
            tensor = tensors[_movable(op)]
            scale = np.where(ties, tensor.scale + np.spacing(tensor.scale), tensor.scale)
            for name in alike.get(tensor.name, (tensor.name,)):
                tensors[name] = dataclasses.replace(tensors[name], scale=scale.astype(np.float32))
                # A moved gate or mean changes the ties of its own convolution and of its readers.
                pending.update((id(other), (other, None)) for other in around[name] if other is not op)
    return moved


def _may_move(graph: IntGraph, op: IntOp, alike: Mapping[str, list[str]]) -> bool:
    """Whether the scale that would have to move is not that of an input, whose pixels are what they are."""
    return not set(alike.get(_movable(op), [_movable(op)])) & set(graph.inputs)


def _with_one_grid(graph: IntGraph) -> dict[str, list[str]]:
    """`{name: names}` of the tensors whose kernels want one scale, which so move together."""
    found: dict[str, list[str]] = {}
    for op in graph.ops:
        if OPERATIONS[op.kind].one_grid:
            joined = [found.get(name, [name]) for name in (*op.inputs, *op.outputs)]
            names = list(dict.fromkeys(name for part in joined for name in part))
            found.update(dict.fromkeys(names, names))
    return found


def _movable(op: IntOp) -> str:
    """The name of the tensor whose scale may move: the weights, the constant or gate, or the output of a mean."""
    place = OPERATIONS[op.kind].movable
    return op.outputs[0] if place < 0 else op.inputs[place]
