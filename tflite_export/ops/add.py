"""Sums of tensors with a scale and a zero point each, as XNNPACK computes them.

Each input is multiplied by a whole number of 21 bits, the larger of them between 2^20 and 2^21, and the sum is shifted
right with halves rounded up. That is whole-number arithmetic, so all CPUs give the same integers.
"""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, integers

_BITS = 20
# The scales of the inputs, in steps of the output, that XNNPACK takes.
BOUNDS = (2.0**-10, 256.0)


def ratios(graph: IntGraph, op: IntOp) -> np.ndarray:
    """float32 (2,): the step of each input in steps of the output."""
    (out,) = graph.tensors[op.outputs[0]].scale
    return np.array([graph.tensors[name].scale[0] / out for name in op.inputs], np.float32)


def compute(graph: IntGraph, op: IntOp, values: Values, sign: int = 1) -> np.ndarray:
    """The sum, or with `sign` -1 the difference."""
    exact = ratios(graph, op).astype(np.float64)
    shift = _BITS + 1 - int(np.frexp(exact.max())[1])
    first, second = (int(np.rint(ratio * 2.0**shift)) for ratio in exact)
    x, y = (integers(graph, n, values).astype(np.int64) - graph.tensors[n].zero_point for n in op.inputs)
    steps = (x * first + y * sign * second + (1 << (shift - 1))) >> shift
    tensor = graph.tensors[op.outputs[0]]
    return np.clip(steps + tensor.zero_point, *limits(graph, op)).astype(tensor.dtype)


OPERATION = Operation(compute, "ADD", "AddOptions", ratios=ratios, bounds=BOUNDS)
