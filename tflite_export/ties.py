"""Ties: accumulators whose requantization lands on a half, where CPUs differ.

x86-64 rounds a half to even, ARM64 up, and one step of difference cascades. All arithmetic is float32, so whether an
accumulator ties is decided by computing it. Scales that are ours to choose are moved by units in the last place until
none is left.
"""

import dataclasses

import numpy as np

from tflite_export.int_graph import limits, ratios

_ROUNDED = ("conv_2d", "depthwise_conv_2d", "fully_connected", "mul", "mean")
_TRIES = 64


def has_ties(graph, op):
    """bool (1,) or (channels,): whether an accumulator exists that `op` requantizes to a half."""
    return _ties(ratios(graph, op), *_halves(graph, op))


def _halves(graph, op):
    """The halves between the lowest and the highest step of the output."""
    low, high = limits(graph, op)
    zero = graph.tensors[op.outputs[0]].zero_point
    return low - zero, high - zero


def _ties(ratio, low, high):
    ratio = np.asarray(ratio, np.float32)[:, np.newaxis, np.newaxis]
    half = np.arange(low - 1, high + 1, dtype=np.float64) + 0.5
    nearest = np.rint(half[:, np.newaxis] / ratio.astype(np.float64))
    # All integers whose product may round to the half: those within a unit in its last place, and one more.
    reach = int(np.ceil(np.spacing(np.float32(max(abs(low), abs(high), 1) + 1)) / ratio.min())) + 1
    candidates = nearest + np.arange(-reach, reach + 1)
    products = candidates.astype(np.float32) * ratio
    return (products == half.astype(np.float32)[:, np.newaxis]).any(axis=(1, 2))


def without(graph):
    """The graph with no tie in any operation whose second input's scale may move: constants and gates.

    A scale moves by a few units in the last place (1e-7 of itself), which changes no accuracy.
    """
    tensors = dict(graph.tensors)
    moved = dataclasses.replace(graph, tensors=tensors)
    for _ in range(_TRIES):
        tied = [(op, ties) for op in graph.ops if op.kind in _ROUNDED and (ties := has_ties(moved, op)).any()]
        if not tied:
            break
        for op, ties in tied:  # one may bring back those of another, whose output it moves: hence several rounds
            tensor = tensors[op.outputs[0] if op.kind == "mean" else op.inputs[1]]
            scale = np.where(ties, np.nextafter(tensor.scale, np.float32(np.inf)), tensor.scale)
            tensors[tensor.name] = dataclasses.replace(tensor, scale=scale)
    return moved
