"""Sums over some axes, which stay as axes of size 1 unless `keep_dims` is False.

The arithmetic is that of means: XNNPACK corrects for the zero point after it has multiplied.
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, out_of
from tflite_export.ops.mean import arguments, axes_of, count, fields, keeps_dims, of_sums


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The rounded sums."""
    sums = values[op.inputs[0]].sum(axis=axes_of(op), keepdims=keeps_dims(op), dtype=np.int32)
    return np.clip(np.rint(of_sums(graph, op, sums, out_of(graph, op))), *limits(graph, op)).astype(np.int8)


def _all_steps(graph: IntGraph, op: IntOp) -> np.ndarray:
    values = count(graph, op)
    return of_sums(graph, op, np.arange(-128 * values, 127 * values + 1), out_of(graph, op))


OPERATION = Operation(
    compute,
    "SUM",
    "ReducerOptions",
    fields=fields,
    arguments=arguments,
    ratios=out_of,
    rounds_ties=True,
    steps=_all_steps,
    movable=-1,
)
