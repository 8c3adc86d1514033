"""Dense layers, of all values of an example or of each of its positions."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, product, requantized


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Sums of products in int32, requantized in float32."""
    x, kernel, bias = (centred(graph, name, values) for name in op.inputs)
    rows = x.reshape(-1, kernel.shape[1]).astype(np.float64)
    accumulator = (rows @ kernel.T.astype(np.float64)).astype(np.int32) + bias
    return requantized(graph, op, accumulator.reshape(len(x), *graph.tensors[op.outputs[0]].shape), product(graph, op))


def _version(op: IntOp) -> int:
    return 5 if op.options.get("keep_dims") else 4


def _fields(graph: IntGraph, op: IntOp) -> dict[str, bool]:
    return {"keepNumDims": op.options.get("keep_dims", False)}


OPERATION = Operation(
    compute, "FULLY_CONNECTED", "FullyConnectedOptions", _version, _fields, ratios=product, rounds_ties=True
)
