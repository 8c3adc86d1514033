"""Convolutions of each channel on its own."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, centred, product, requantized, taps


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """Sums of products in int32, requantized in float32."""
    x, kernel, bias = (centred(graph, name, values) for name in op.inputs)
    x = np.repeat(x, len(bias) // x.shape[-1], axis=-1)  # the filters of a channel stand side by side
    weights = kernel[0].reshape(-1, len(bias))
    accumulator = sum(tap * w for tap, w in zip(taps(op, x, kernel.shape[1:3]), weights, strict=True)) + bias
    return requantized(graph, op, accumulator, product(graph, op))


def _fields(graph: IntGraph, op: IntOp) -> dict[str, int]:
    height, width = op.options.get("dilations", (1, 1))
    channels, filters = (graph.tensors[name].shape[-1] for name in op.inputs[:2])
    return {"dilationHFactor": height, "dilationWFactor": width, "depthMultiplier": filters // channels}


OPERATION = Operation(
    compute, "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 3, _fields, ratios=product, rounds_ties=True
)
