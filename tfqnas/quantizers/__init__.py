"""Quantizers: one file a method. To add one, subclass `Quantizer` in a new file and name it in `ALL`."""

from tfqnas.quantizers.base import Quantizer, clone, initializing, integer_range, quantizers_of
from tfqnas.quantizers.calibrated import Calibrated
from tfqnas.quantizers.lsq import LSQ, lsq
from tfqnas.quantizers.min_max import MinMax

# Every quantizer, for the contract test that holds for all of them (tests/quantizers/contract_test.py).
ALL = (LSQ, Calibrated, MinMax)

__all__ = [
    "ALL", *(quantizer.__name__ for quantizer in ALL), "Quantizer", "clone", "initializing", "integer_range", "lsq",
    "quantizers_of",
]  # fmt: skip
