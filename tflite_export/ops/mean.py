"""Means over some axes, which stay as axes of size 1 unless `keep_dims` is False.

XNNPACK multiplies the sum of the integers including their zero point, and corrects for the zero point afterwards. Close
to a half, another order of these float32 roundings would give another integer.
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, out_of


def axes_of(op: IntOp) -> tuple[int, ...]:
    """The axes, with the batch as axis 0."""
    return op.options.get("axes", (1, 2))


def keeps_dims(op: IntOp) -> bool:
    """Whether the axes stay as axes of size 1."""
    return op.options.get("keep_dims", True)


def count(graph: IntGraph, op: IntOp) -> int:
    """How many values an output is made of."""
    return int(np.prod([graph.tensors[op.inputs[0]].shape[axis - 1] for axis in axes_of(op)]))


def _ratios(graph: IntGraph, op: IntOp) -> np.ndarray:
    return out_of(graph, op) * (np.float32(1) / np.float32(count(graph, op)))


def of_sums(graph: IntGraph, op: IntOp, sums: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """float32: `sums * factor` in steps of the output before rounding."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    bias = np.float32(y.zero_point) - np.float32(x.zero_point) * np.float32(count(graph, op)) * factor
    return sums.astype(np.float32) * factor + bias


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The rounded means."""
    sums = values[op.inputs[0]].sum(axis=axes_of(op), keepdims=keeps_dims(op), dtype=np.int32)
    return np.clip(np.rint(of_sums(graph, op, sums, _ratios(graph, op))), *limits(graph, op)).astype(np.int8)


def _all_steps(graph: IntGraph, op: IntOp) -> np.ndarray:
    values = count(graph, op)
    return of_sums(graph, op, np.arange(-128 * values, 127 * values + 1), _ratios(graph, op))


def arguments(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    """The axes."""
    return [np.array(axes_of(op), np.int32)]


def fields(graph: IntGraph, op: IntOp) -> dict[str, bool]:
    """Whether the axes stay."""
    return {"keepDims": keeps_dims(op)}


OPERATION = Operation(
    compute,
    "MEAN",
    "ReducerOptions",
    fields=fields,
    arguments=arguments,
    ratios=_ratios,
    rounds_ties=True,
    steps=_all_steps,
    movable=-1,
)
