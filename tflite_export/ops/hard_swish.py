"""`x * relu6(x + 3) / 6`, as a table of LiteRT's 16-bit arithmetic."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values, looked_up


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The entries of the table."""
    return looked_up(hard_swish_table(graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]), op, values)


def hard_swish_table(x: IntTensor, y: IntTensor) -> np.ndarray:
    """int8 (256,): the output of LiteRT's HARD_SWISH kernel for every input from -128 to 127.

    The kernel computes in 16-bit fixed point, which is not a correctly rounded `x * relu6(x + 3) / 6`.

    Args:
        x, y: `IntTensor`s of the input and the output.
    """
    hires_scale = np.float32(1 / 128) * x.scale[0]
    output_multiplier, output_exponent = _multiplier_16(np.float64(hires_scale / y.scale[0]))
    reluish_multiplier, reluish_exponent = _multiplier_16(np.float64(hires_scale / np.float32(3 / 32768)))
    hires = (np.arange(-128, 128, dtype=np.int64) - x.zero_point) << 7
    preshift = _doubling_high_mul_16(hires, output_multiplier, rounding=True)
    gate = hires
    if reluish_exponent > 0:
        gate = _saturated_16(gate << (reluish_exponent - 1))
    gate = _doubling_high_mul_16(gate, reluish_multiplier, rounding=True)
    if reluish_exponent > 0:
        gate = _saturated_16(gate << 1)
    elif reluish_exponent < 0:
        gate = _rounding_divide(gate, -reluish_exponent)
    gate = (gate + (1 << 15)) >> 1
    product = _doubling_high_mul_16(gate, preshift, rounding=False)
    result = _rounding_divide(product, -output_exponent) + y.zero_point
    return np.clip(result, -128, 127).astype(np.int8)


def _multiplier_16(real: np.float64) -> tuple[int, int]:
    """`(multiplier, exponent)` with `real = multiplier / 2^15 * 2^exponent`, the multiplier an int16."""
    fraction, exponent = np.frexp(real)
    fixed = int(np.floor(fraction * 2**31 + 0.5))
    if fixed == 2**31:
        fixed, exponent = fixed // 2, exponent + 1
    return min((fixed + (1 << 15)) >> 16, 2**15 - 1), int(exponent)


def _saturated_16(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -(2**15), 2**15 - 1)


def _doubling_high_mul_16(a: np.ndarray, b: np.ndarray | int, rounding: bool) -> np.ndarray:
    """`2 a b / 2^16`, rounded to nearest, or towards zero without `rounding`."""
    product = a * b
    if rounding:
        return _saturated_16((product + (1 << 14)) >> 15)
    return _saturated_16(np.sign(product) * (np.abs(product) >> 15))


def _rounding_divide(x: np.ndarray, exponent: int) -> np.ndarray:
    """`x / 2^exponent`, rounded to nearest with halves away from zero."""
    if exponent == 0:
        return x
    mask = (1 << exponent) - 1
    remainder, threshold = x & mask, (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


OPERATION = Operation(compute, "HARD_SWISH", "HardSwishOptions", 1)
