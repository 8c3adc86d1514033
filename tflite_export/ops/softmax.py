"""Probabilities along the last axis."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """LiteRT's kernel with a table of `exp` of the distance to the largest integer, in float32."""
    x = values[op.inputs[0]].astype(np.int32)
    scale = graph.tensors[op.inputs[0]].scale[0]
    table = np.exp(-scale * np.arange(256, dtype=np.float32)).astype(np.float32)
    powers = table[x.max(axis=-1, keepdims=True) - x]
    total = np.add.accumulate(powers, axis=-1, dtype=np.float32)[..., -1:]
    y = graph.tensors[op.outputs[0]]
    probabilities = powers * (np.float32(1) / (total * y.scale[0]))
    return np.clip(np.rint(probabilities).astype(np.int32) + y.zero_point, -128, 127).astype(np.int8)


def _fields(graph: IntGraph, op: IntOp) -> dict[str, float]:
    return {"beta": 1.0}


OPERATION = Operation(compute, "SOFTMAX", "SoftmaxOptions", 2, _fields)
