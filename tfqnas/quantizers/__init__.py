"""Quantizers: one file a method. To add one, subclass `Quantizer` in a new file and name it in `ALL`."""

from tfqnas.quantizers.base import Codes, Quantizer, clone, initializing, integer_range, quantizers_of
from tfqnas.quantizers.batch_quant import BatchQuant
from tfqnas.quantizers.by_bits import FLOAT, ByBits
from tfqnas.quantizers.calibrated import Calibrated
from tfqnas.quantizers.lsq import LSQ, lsq
from tfqnas.quantizers.min_max import MinMax

# Every quantizer, for the contract test that holds for all of them (tests/quantizers/contract_test.py).
ALL = (LSQ, BatchQuant, ByBits, Calibrated, MinMax)

__all__ = [
    "ALL", "FLOAT", "Codes", *(quantizer.__name__ for quantizer in ALL), "Quantizer", "clone", "initializing",
    "integer_range", "lsq", "quantizers_of",
]  # fmt: skip
