"""`x` times the share of the normal distribution below it (Hendrycks and Gimpel, 2016), or nearly so by tanh."""

import math

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import of_table


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    if op.options.get("approximate"):
        share = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        share = np.array([math.erf(value / math.sqrt(2)) for value in x])
    return 0.5 * x * (1 + share)


def _fields(graph: IntGraph, op: IntOp) -> dict[str, bool]:
    return {"approximate": op.options.get("approximate", False)}


OPERATION = of_table(_function, "GELU", "GeluOptions", 1, _fields)
