"""The natural logarithm; the lowest integer for what has none."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import of_table


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return np.log(x)


OPERATION = of_table(_function, "LOG")
