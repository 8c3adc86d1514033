"""Every n-th value of a part of a tensor."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def _parts(op: IntOp) -> list[slice]:
    begin, strides = op.options["begin"], op.options.get("strides")
    ends = op.options.get("end") or [b + s for b, s in zip(begin, op.options["size"], strict=True)]
    return [slice(*part) for part in zip(begin, ends, strides or [1] * len(begin), strict=True)]


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The integers of the part."""
    return values[op.inputs[0]][(slice(None), *_parts(op))]


def _places(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    """Begin, end and step of each axis; the masks below let the batch be what it is."""
    parts = _parts(op)
    rows = zip(*((part.start, part.stop, part.step) for part in parts), strict=True)
    return [np.array([first, *row], np.int32) for first, row in zip((0, 0, 1), rows, strict=True)]


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    return {"beginMask": 1, "endMask": 1}


OPERATION = Operation(compute, "STRIDED_SLICE", "StridedSliceOptions", 2, _fields, _places, one_grid=True)
