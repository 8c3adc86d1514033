"""`x` above zero, `exp(x) - 1` below."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import MARGIN, table_steps, tabulated


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


OPERATION = Operation(
    tabulated(_function), "ELU", None, 1, rounds_ties=True, steps=table_steps(_function), margin=MARGIN, movable=-1
)
