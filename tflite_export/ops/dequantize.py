"""The values that integers stand for, as float32."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, dequantized
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """float32 of the same shape."""
    return dequantized(graph.tensors[op.inputs[0]], values[op.inputs[0]])


OPERATION = Operation(compute, "DEQUANTIZE", "DequantizeOptions")
