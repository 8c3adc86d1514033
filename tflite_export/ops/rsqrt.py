"""`1 / sqrt(x)`; the highest integer for what has none.

LiteRT's table is made in whole numbers: `1 / sqrt(n)` of the whole number n of steps of the input in units of 2^-20,
times a factor (`common.scaled`).
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, looked_up, scaled

_BITS = 20
# LiteRT finds roots with Newton's method in fixed point, which ends one unit too low at these.
_LOW = (2, 8, 131)


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The entries of the table."""
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    count = np.arange(-128, 128) - x.zero_point
    roots = np.rint(2**_BITS / np.sqrt(np.maximum(count, 1))).astype(np.int64) - np.isin(count, _LOW)
    factor = np.float64(np.float32(1) / (np.sqrt(x.scale[0]) * y.scale[0]))  # in float32
    low, high = limits(graph, op)
    steps = np.clip(scaled(roots, factor / 2**_BITS) + y.zero_point, low, high)
    return looked_up(np.where(count > 0, steps, high).astype(np.int8), op, values)


OPERATION = Operation(compute, "RSQRT", None, 2)
