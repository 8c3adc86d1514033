"""Symmetric quantization over the whole range of a tensor: the contract test has it."""

import numpy as np

from tests.quantizers.contract import Contract
from tfqnas.quantizers import MinMax


def surrogate(quantizer, x):
    """The identity, but for what rounding adds."""
    rounding = np.float64(quantizer(np.float32(x))) - x
    return lambda x: x + rounding, {}


CONTRACT = Contract(MinMax, [{"bits": 8}, {"bits": 3}], surrogate)
