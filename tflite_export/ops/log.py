"""The natural logarithm; the lowest integer for what has none."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import MARGIN, table_steps, tabulated


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return np.log(x)


OPERATION = Operation(
    tabulated(_function), "LOG", None, 2, rounds_ties=True, steps=table_steps(_function), margin=MARGIN, movable=-1
)
