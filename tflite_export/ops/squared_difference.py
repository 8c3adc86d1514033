"""Squares of differences of two tensors with a scale and a zero point each.

LiteRT's own kernel computes in whole numbers: both inputs in 128ths of twice the larger scale, their difference
squared, and the square in steps of the output. All three products round as those of matrix products do.
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, scaled

_BITS = 7


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The rounded squares."""
    scales = [np.float64(graph.tensors[name].scale[0]) for name in op.inputs]
    unit, tensor = 2 * max(scales), graph.tensors[op.outputs[0]]
    x, y = (
        scaled(centred(graph, name, values).astype(np.int64) << _BITS, scale / unit)
        for name, scale in zip(op.inputs, scales, strict=True)
    )
    steps = scaled((x - y) ** 2, unit**2 / (4.0**_BITS * np.float64(tensor.scale[0])))
    return np.clip(steps + tensor.zero_point, *limits(graph, op)).astype(tensor.dtype)


OPERATION = Operation(compute, "SQUARED_DIFFERENCE", "SquaredDifferenceOptions")
