"""The hyperbolic tangent, on the grid of scale 1/128 and zero point 0."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import of_table


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return np.tanh(x)


OPERATION = of_table(_function, "TANH", movable=0)
