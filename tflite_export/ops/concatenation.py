"""Tensors with one grid side by side."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, integers


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The integers of all inputs."""
    return np.concatenate([integers(graph, name, values) for name in op.inputs], axis=op.options["axis"])


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    return {"axis": op.options["axis"]}


OPERATION = Operation(compute, "CONCATENATION", "ConcatenationOptions", 2, _fields, one_grid=True)
