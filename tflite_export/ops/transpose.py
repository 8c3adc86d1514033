"""Other orders of the axes."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The same integers."""
    return values[op.inputs[0]].transpose(op.options["perm"])


def _perm(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return [np.array(op.options["perm"], np.int32)]


OPERATION = Operation(compute, "TRANSPOSE", "TransposeOptions", arguments=_perm, one_grid=True)
