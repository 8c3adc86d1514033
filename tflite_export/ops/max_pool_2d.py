"""The largest value in each window."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, taps


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The largest integers; what is padded is lower than all."""
    return np.maximum.reduce(list(taps(op, values[op.inputs[0]], op.options["size"], value=-128)))


def fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    """The size of the windows."""
    height, width = op.options["size"]
    return {"filterHeight": height, "filterWidth": width}


OPERATION = Operation(compute, "MAX_POOL_2D", "Pool2DOptions", 2, fields, one_grid=True)
