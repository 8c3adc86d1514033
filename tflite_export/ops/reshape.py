"""Other shapes."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The same integers."""
    return values[op.inputs[0]].reshape(-1, *graph.tensors[op.outputs[0]].shape)


def _shape(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return [np.array([-1, *graph.tensors[op.outputs[0]].shape], np.int32)]


OPERATION = Operation(compute, "RESHAPE", "ReshapeOptions", 1, arguments=_shape, one_grid=True)
