"""A tensor's own values, mirrored, around it."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The integers with mirrored ones around them."""
    return np.pad(values[op.inputs[0]], ((0, 0), *op.options["paddings"]), mode=op.options["mode"])


def _paddings(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return [np.array([(0, 0), *op.options["paddings"]], np.int32)]


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    return {"mode": ("reflect", "symmetric").index(op.options["mode"])}


OPERATION = Operation(compute, "MIRROR_PAD", "MirrorPadOptions", 2, _fields, _paddings, one_grid=True)
