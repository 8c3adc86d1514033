"""`x` above zero, `exp(x) - 1` below."""

import numpy as np

from tflite_export.int_graph import IntOp
from tflite_export.ops.base import of_table


def _function(x: np.ndarray, op: IntOp) -> np.ndarray:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


OPERATION = of_table(_function, "ELU", version=1)
