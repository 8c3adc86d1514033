"""What the contract test wants to know of a quantizer. Each test file of one says it as `CONTRACT`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfqnas.quantizers import Quantizer


class Contract(NamedTuple):
    """A quantizer and what its gradients are measured by.

    Args:
        quantizer: its class. settings: arguments of several objects to test.
        surrogate: function `(quantizer, x)` that returns a float64 function of `x` and of the quantizer's variables by
            name, whose slopes are the gradients, and `{variable: factor}` of the gradients of those that learn.
    """

    quantizer: type[Quantizer]
    settings: Sequence[dict[str, Any]]
    surrogate: Callable[..., tuple[Callable[..., Any], dict[str, float]]]


def stepwise(x, low, high, step, shift=0.0):
    """`round(clip(x + shift, low, high) / step) * step - shift` as straight-through estimators see it, in float64."""
    u = np.clip(x + shift, low, high)
    return np.rint(u / step) - u / step
