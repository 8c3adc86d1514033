"""Quantizers: one file a method. To add one, subclass `Quantizer` in a new file and name it in `ALL`."""

from tfqnas.quantizers.base import Quantizer, clone, initializing, integer_range, quantizers_of
from tfqnas.quantizers.lsq import LSQ, lsq

# Every quantizer, for the contract test that holds for all of them (tests/quantizers/contract_test.py).
ALL = (LSQ,)

__all__ = ["ALL", "LSQ", "Quantizer", "clone", "initializing", "integer_range", "lsq", "quantizers_of"]
