"""Ties: accumulators whose requantization lands on a half, where CPUs differ.

x86-64 rounds a half to even, ARM64 up, and one step of difference cascades. All arithmetic is float32, so whether an
accumulator ties is decided by computing it. Scales are moved a little until nothing ties: of a convolution those of its
weights, channel by channel, of a product that of the constant or the gate, of a mean that of its output.

The steps that input quantizers have learned stay as they are to the bit, those of weights move by 3e-4 at most. So in a
layer with learned steps what may remain are accumulators worth less than a few ten-thousandths of a step, of which one
in a million ties whatever the scale, and products or means whose movable scale is that of an addition's tensors, which
stay alike. `remaining` names such layers; of random and trained networks of our spaces there are none.
"""

import collections
import dataclasses

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits, mean_steps, ratios

_ROUNDED = ("conv_2d", "depthwise_conv_2d", "fully_connected", "mul", "mean")
# A move is a spacing of float32, at most 1.2e-7 of the scale, so all of them are at most 3e-4. The largest MobileNetV3
# needs 4e-5 for its slowest channel, of gates; with 48 tries a quarter of its gates' channels had ties left.
_TRIES = 2400


def has_ties(graph: IntGraph, op: IntOp, among: np.ndarray | None = None) -> np.ndarray:
    """bool (1,) or (channels,): whether an accumulator exists that `op` requantizes to a half.

    `among`: bool (channels,), of which channels to find out; False for the others.
    """
    if op.kind == "mean":
        x = graph.tensors[op.inputs[0]]
        pixels = int(np.prod(x.shape[:-1]))
        steps = mean_steps(graph, op, np.arange(-128 * pixels, 127 * pixels + 1))
        return (steps - np.floor(steps) == 0.5).any(keepdims=True)
    ratio, halves = ratios(graph, op), _halves(graph, op)
    if among is None:
        return _ties(ratio, *halves)
    found = np.zeros(among.shape, bool)
    found[among] = _ties(ratio[among], *halves)
    return found


def _halves(graph: IntGraph, op: IntOp) -> tuple[int, int]:
    """The halves between the lowest and the highest step of the output."""
    low, high = limits(graph, op)
    zero = graph.tensors[op.outputs[0]].zero_point
    return low - zero, high - zero


def _ties(ratio: np.ndarray, low: int, high: int) -> np.ndarray:
    ratio = np.asarray(ratio, np.float32)[:, np.newaxis, np.newaxis]
    half = np.arange(low - 1, high + 1, dtype=np.float64) + 0.5
    nearest = np.rint(half[:, np.newaxis] / ratio.astype(np.float64))
    # If any integer's product rounds to the half, one of the nearest does: they lie in an interval around it.
    candidates = nearest + np.arange(-1, 2)
    products = candidates.astype(np.float32) * ratio
    return (products == half.astype(np.float32)[:, np.newaxis]).any(axis=(1, 2))


def remaining(graph: IntGraph) -> dict[str, int]:
    """`{layer: how many of its channels have an accumulator that ties}`, of those that have any."""
    counts = {op.source: int(has_ties(graph, op).sum()) for op in graph.ops if op.kind in _ROUNDED}
    return {layer: count for layer, count in counts.items() if count}


def without(graph: IntGraph) -> IntGraph:
    """The graph with fewer ties: scales of constants and gates move by at most 3e-4 of themselves, most by 1e-7."""
    tensors = dict(graph.tensors)
    moved = dataclasses.replace(graph, tensors=tensors)
    # What an addition connects has one scale, and keeps it.
    shared = {name for op in graph.ops if op.kind == "add" for name in (*op.inputs, *op.outputs)}
    movable = [op for op in graph.ops if op.kind in _ROUNDED and _movable(op) not in shared]
    around = collections.defaultdict(list)  # name of a tensor -> operations that it may make tie
    for op in movable:
        for name in (*op.inputs, *op.outputs):
            around[name].append(op)
    pending: dict[int, tuple[IntOp, np.ndarray | None]]
    pending = {id(op): (op, None) for op in movable}  # with the channels that are in doubt, None: all
    for _ in range(_TRIES):
        tied = [(op, ties) for op, among in pending.values() if (ties := has_ties(moved, op, among)).any()]
        if not tied:
            break
        pending = {id(op): (op, ties) for op, ties in tied}
        for op, ties in tied:
            tensor = tensors[_movable(op)]
            scale = np.where(ties, tensor.scale + np.spacing(tensor.scale), tensor.scale)
            tensors[tensor.name] = dataclasses.replace(tensor, scale=scale.astype(np.float32))
            # A gate's own convolution ties elsewhere now, and so may what reads a mean.
            pending.update((id(other), (other, None)) for other in around[tensor.name] if other is not op)
    return moved


def _movable(op: IntOp) -> str:
    """The name of the tensor whose scale may move: weights, a constant, a gate; of a mean its output."""
    return op.outputs[0] if op.kind == "mean" else op.inputs[1]
