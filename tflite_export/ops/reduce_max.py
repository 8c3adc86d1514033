"""The largest value over some axes, which stay as axes of size 1 unless `keep_dims` is False."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values
from tflite_export.ops.mean import arguments, axes_of, fields, keeps_dims


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The largest integers."""
    return values[op.inputs[0]].max(axis=axes_of(op), keepdims=keeps_dims(op))


OPERATION = Operation(compute, "REDUCE_MAX", "ReducerOptions", 2, fields, arguments, one_grid=True)
