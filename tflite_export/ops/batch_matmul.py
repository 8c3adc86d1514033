"""Matrix products of two tensors, over their last two axes.

XNNPACK computes them if the zero point of the second tensor is 0, and rounds as it does in convolutions. All others are
computed by LiteRT's own kernel in whole numbers (`common.scaled`), which round halves alike on all CPUs.
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, product, requantized, scaled


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Sums of products in int32, requantized."""
    # float64 holds every sum of int8 products exactly, and its matrix product is faster than that of integers.
    x, y = (centred(graph, name, values).astype(np.float64) for name in op.inputs)
    x = np.swapaxes(x, -1, -2) if op.options.get("adj_x") else x
    y = np.swapaxes(y, -1, -2) if op.options.get("adj_y") else y
    sums = (x @ y).astype(np.int32)
    if _in_floats(graph, op):
        return requantized(graph, op, sums, product(graph, op))
    one, other, tensor = (graph.tensors[name] for name in (*op.inputs, *op.outputs))
    steps = scaled(sums.astype(np.int64), np.float64(one.scale[0] * other.scale[0]) / np.float64(tensor.scale[0]))
    return np.clip(steps + tensor.zero_point, *limits(graph, op)).astype(tensor.dtype)


def _in_floats(graph: IntGraph, op: IntOp) -> bool:
    return graph.tensors[op.inputs[1]].zero_point == 0


def _fields(graph: IntGraph, op: IntOp) -> dict[str, bool]:
    return {"adjX": op.options.get("adj_x", False), "adjY": op.options.get("adj_y", False)}


OPERATION = Operation(compute, "BATCH_MATMUL", "BatchMatMulOptions", 2, _fields, ratios=product, rounds_ties=_in_floats)
