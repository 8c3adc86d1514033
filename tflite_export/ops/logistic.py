"""The sigmoid, on the grid of scale 1/256 and zero point -128."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import of_table


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


OPERATION = of_table(_function, "LOGISTIC", movable=0)
