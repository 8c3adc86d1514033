"""Products of two tensors, or of a tensor and a constant."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, product, requantized


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Products in int32, requantized in float32."""
    x, y = (centred(graph, name, values) for name in op.inputs)
    return requantized(graph, op, x * y, product(graph, op))


OPERATION = Operation(compute, "MUL", "MulOptions", ratios=product, rounds_ties=True)
