"""The larger values of two tensors with one grid."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, integers


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """One of two integers."""
    return np.maximum(*(integers(graph, name, values) for name in op.inputs))


OPERATION = Operation(compute, "MAXIMUM", "MaximumMinimumOptions", one_grid=True)
