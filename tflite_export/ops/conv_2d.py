"""Convolutions, also dilated ones and ones in groups of channels."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, padded, product, requantized


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Sums of products in int32, requantized in float32."""
    x, kernel, bias = (centred(graph, name, values) for name in op.inputs)
    filters, kh, kw, channels = kernel.shape
    (sh, sw), (dh, dw) = op.options["strides"], op.options.get("dilations", (1, 1))
    wide, height, width = padded(op, x, (kh, kw))
    windows = np.lib.stride_tricks.sliding_window_view(wide, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (1, 2))
    windows = windows[:, ::sh, ::sw, :, ::dh, ::dw]
    groups = x.shape[-1] // channels
    parts = []
    for place in range(groups):
        part = windows[:, :, :, place * channels : (place + 1) * channels]
        rows = part.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * channels)
        own = kernel[place * filters // groups : (place + 1) * filters // groups]
        # float64 holds every sum of int8 products exactly, and its matrix product is faster than that of integers.
        parts.append(rows.astype(np.float64) @ own.reshape(len(own), -1).T.astype(np.float64))
    sums = np.concatenate(parts, axis=-1) if groups > 1 else parts[0]
    accumulator = sums.astype(np.int32).reshape(len(x), height, width, filters) + bias
    return requantized(graph, op, accumulator, product(graph, op))


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    height, width = op.options.get("dilations", (1, 1))
    return {"dilationHFactor": height, "dilationWFactor": width}


OPERATION = Operation(compute, "CONV_2D", "Conv2DOptions", 3, _fields, ratios=product, rounds_ties=True)
