"""Zeros around a tensor."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The integers with the zero point around them."""
    tensor = graph.tensors[op.inputs[0]]
    return np.pad(values[tensor.name], ((0, 0), *op.options["paddings"]), constant_values=tensor.zero_point)


def _paddings(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return [np.array([(0, 0), *op.options["paddings"]], np.int32)]


OPERATION = Operation(compute, "PAD", "PadOptions", arguments=_paddings, one_grid=True)
