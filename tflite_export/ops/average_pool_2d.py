"""Means of the values in each window, on the grid of the input."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, taps
from tflite_export.ops.max_pool_2d import fields


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Averages the integers, zero point included, over the pixels inside the image; halves round away from zero."""
    x = values[op.inputs[0]].astype(np.int32)
    sums, counts = sum(taps(op, x, op.options["size"])), sum(taps(op, np.ones_like(x[:1]), op.options["size"]))
    return (np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)).astype(np.int8)


OPERATION = Operation(compute, "AVERAGE_POOL_2D", "Pool2DOptions", 2, fields, one_grid=True)
