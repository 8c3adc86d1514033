"""Differences of tensors with a scale and a zero point each, by the arithmetic of sums."""

import functools

from tflite_export.ops import add
from tflite_export.ops.base import Operation

OPERATION = Operation(
    functools.partial(add.compute, sign=-1), "SUB", "SubOptions", ratios=add.ratios, bounds=add.BOUNDS
)
