"""Inputs of another type, or on another grid, as int8."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, out_of


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Rounds float32, shifts uint8 by 128, or moves int8 to another grid, as XNNPACK does.

    The latter multiplies by a whole number of 256ths, and rounds halves up.

    Raises:
        ValueError: uint8 and int8 have different scales.
    """
    if why := _problem(graph, op):
        raise ValueError(f"{op.outputs[0]}: {why}")
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype == "float32":
        steps = np.rint(values[x.name] * (np.float32(1) / y.scale[0])) + np.float32(y.zero_point)
        return np.clip(steps, *y.range).astype(y.dtype)
    steps = centred(graph, x.name, values)
    if x.dtype == "int8":
        factor = int(np.rint(np.float32(256) * _ratios(graph, op)[0]))
        steps = (steps * factor + 128) >> 8
    return np.clip(steps + y.zero_point, *y.range).astype(y.dtype)


def _problem(graph: IntGraph, op: IntOp) -> str:
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    if x.dtype != "uint8" or x.scale[0] == y.scale[0]:
        return ""
    # LiteRT's kernel rounds halves up in blocks of 16 values, and away from zero in those that are left of a batch.
    return f"quantizing uint8: expected the scale of its input, {x.scale[0]}, received {y.scale[0]}"


def _ratios(graph: IntGraph, op: IntOp) -> np.ndarray:
    return out_of(graph, op) if graph.tensors[op.inputs[0]].dtype == "int8" else np.ones(1, np.float32)


OPERATION = Operation(compute, "QUANTIZE", "QuantizeOptions", ratios=_ratios, bounds=(2.0**-8, 128.0), problem=_problem)
