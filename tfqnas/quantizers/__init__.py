"""Quantizers, with one file for each method. docs/your_quantizer.md shows how to write one; all files are imported."""

import importlib
import pkgutil

from tfqnas.quantizers.apot import APoT
from tfqnas.quantizers.base import Codes, Quantizer, clone, initializing, integer_range, quantizers_of
from tfqnas.quantizers.batch_quant import BatchQuant
from tfqnas.quantizers.by_bits import FLOAT, ByBits
from tfqnas.quantizers.by_size import BySize
from tfqnas.quantizers.calibrated import Calibrated
from tfqnas.quantizers.calibrated_weights import CalibratedWeights
from tfqnas.quantizers.dorefa import DoReFa
from tfqnas.quantizers.dsq import DSQ
from tfqnas.quantizers.lsq import LSQ, lsq
from tfqnas.quantizers.lsq_per_channel import LSQPerChannel
from tfqnas.quantizers.lsq_plus import LSQPlus
from tfqnas.quantizers.min_max import MinMax
from tfqnas.quantizers.mixture import Mixture
from tfqnas.quantizers.pact import PACT
from tfqnas.quantizers.registry import deployable, get, name_of, names, register, supports
from tfqnas.quantizers.traits import NONE, ROLES, Traits

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")  # each file registers its method

__all__ = [
    "DSQ",
    "FLOAT",
    "LSQ",
    "NONE",
    "PACT",
    "ROLES",
    "APoT",
    "BatchQuant",
    "ByBits",
    "BySize",
    "Calibrated",
    "CalibratedWeights",
    "Codes",
    "DoReFa",
    "LSQPerChannel",
    "LSQPlus",
    "MinMax",
    "Mixture",
    "Quantizer",
    "Traits",
    "clone",
    "deployable",
    "get",
    "initializing",
    "integer_range",
    "lsq",
    "name_of",
    "names",
    "quantizers_of",
    "register",
    "supports",
]
