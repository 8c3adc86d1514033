"""The sigmoid, on the grid of scale 1/256 and zero point -128."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import MARGIN, table_steps, tabulated


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


OPERATION = Operation(
    tabulated(_function), "LOGISTIC", None, 2, rounds_ties=True, steps=table_steps(_function), margin=MARGIN, movable=0
)
