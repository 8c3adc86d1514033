"""Quantizers: one file a method. To add one, subclass `Quantizer` in a new file and name it in `ALL`."""

from tfqnas.quantizers.apot import APoT
from tfqnas.quantizers.base import ROLES, Codes, Quantizer, clone, initializing, integer_range, quantizers_of
from tfqnas.quantizers.batch_quant import BatchQuant
from tfqnas.quantizers.by_bits import FLOAT, ByBits
from tfqnas.quantizers.calibrated import Calibrated
from tfqnas.quantizers.calibrated_weights import CalibratedWeights
from tfqnas.quantizers.dorefa import DoReFa
from tfqnas.quantizers.dsq import DSQ
from tfqnas.quantizers.lsq import LSQ, lsq
from tfqnas.quantizers.lsq_per_channel import LSQPerChannel
from tfqnas.quantizers.lsq_plus import LSQPlus
from tfqnas.quantizers.min_max import MinMax
from tfqnas.quantizers.mixed import Mixed
from tfqnas.quantizers.names import NAMES, deployable, get, name_of, supports
from tfqnas.quantizers.pact import PACT

# Every quantizer, for the contract test that holds for all of them (tests/quantizers/contract_test.py).
ALL = (
    LSQ,
    LSQPerChannel,
    LSQPlus,
    PACT,
    DoReFa,
    DSQ,
    APoT,
    BatchQuant,
    ByBits,
    Calibrated,
    CalibratedWeights,
    MinMax,
    Mixed,
)

__all__ = [
    "ALL",
    "FLOAT",
    "NAMES",
    "ROLES",
    "Codes",
    *(quantizer.__name__ for quantizer in ALL),
    "Quantizer",
    "clone",
    "deployable",
    "get",
    "initializing",
    "integer_range",
    "lsq",
    "name_of",
    "quantizers_of",
    "supports",
]
