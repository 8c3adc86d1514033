"""Affine quantization over a calibrated range: the contract test has it; ranges_test.py tests how ranges are found."""

import numpy as np

from tests.quantizers.contract import Contract
from tfqnas.quantizers import Calibrated


def surrogate(quantizer, x):
    """Rounding adds a constant; the range is given, so nothing but the tensor has a slope."""

    def function(x, low, high):
        scale = (high - low) / quantizer.qp
        zero = np.rint(-low / scale)
        u = np.clip(x / scale + zero, 0, quantizer.qp)
        return (u + rounding - zero) * scale

    scale = (np.float64(quantizer.high.numpy()) - quantizer.low.numpy()) / quantizer.qp
    u = np.clip(x / scale + np.rint(-quantizer.low.numpy() / scale), 0, quantizer.qp)
    rounding = np.floor(u + 0.5) - u
    return function, {}


CONTRACT = Contract(
    Calibrated,
    [{"bits": 8, "method": "min_max"}, {"bits": 3, "method": "mse"}, {"bits": 4, "bounds": [-1.0, 0.5]}],
    surrogate,
)
