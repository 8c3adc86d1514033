"""Pixels moved to channels."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The same integers."""
    x, size = values[op.inputs[0]], op.options["block_size"]
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // size, size, width // size, size, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height // size, width // size, -1)


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    return {"blockSize": op.options["block_size"]}


OPERATION = Operation(compute, "SPACE_TO_DEPTH", "SpaceToDepthOptions", 1, _fields, one_grid=True)
