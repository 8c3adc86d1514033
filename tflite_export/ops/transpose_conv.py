"""Transposed convolutions."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, product, requantized


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Each value spreads its kernel over the output; sums in int32, requantized in float32."""
    x, kernel, bias = (centred(graph, name, values) for name in op.inputs)
    filters, kh, kw, _ = kernel.shape
    (sh, sw), (height, width, _) = op.options["strides"], graph.tensors[op.outputs[0]].shape
    n, rows, columns, _ = x.shape
    full = np.zeros((n, (rows - 1) * sh + max(kh, sh), (columns - 1) * sw + max(kw, sw), filters), np.int64)
    for i in range(kh):
        for j in range(kw):
            part = x.astype(np.float64) @ kernel[:, i, j].T.astype(np.float64)
            full[:, i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw] += part.astype(np.int64)
    top, left = _margin(rows, height, kh, sh, op), _margin(columns, width, kw, sw, op)
    accumulator = full[:, top : top + height, left : left + width].astype(np.int32) + bias
    return requantized(graph, op, accumulator, product(graph, op))


def _margin(size: int, out: int, kernel: int, stride: int, op: IntOp) -> int:
    """How many values before the output are left out."""
    return 0 if op.options["padding"] == "valid" else max((size - 1) * stride + kernel - out, 0) // 2


def _problem(graph: IntGraph, op: IntOp) -> str:
    size, strides = graph.tensors[op.inputs[1]].shape[1:3], op.options["strides"]
    if op.options["padding"] == "valid" or all(k >= s for k, s in zip(size, strides, strict=True)):
        return ""
    # XNNPACK refuses it, and LiteRT's own kernel computes one image at a time.
    return f"a transposed convolution with padding same: expected a kernel no smaller than {strides}, received {size}"


def _size(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return [np.array([1, *graph.tensors[op.outputs[0]].shape], np.int32)]


OPERATION = Operation(
    compute,
    "TRANSPOSE_CONV",
    "TransposeConvOptions",
    4,
    arguments=_size,
    arguments_first=True,
    order=(1, 0, 2),
    ratios=product,
    rounds_ties=True,
    problem=_problem,
)
