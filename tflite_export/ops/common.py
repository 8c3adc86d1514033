"""What the reference implementations of several operations share."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, limits

Values = Mapping[str, np.ndarray]


def integers(graph: IntGraph, name: str, values: Values) -> np.ndarray:
    """The integers of an activation or of a constant."""
    data = graph.tensors[name].data
    return values[name] if data is None else data


def centred(graph: IntGraph, name: str, values: Values) -> np.ndarray:
    """An activation or a constant as int32 with its zero point subtracted."""
    return integers(graph, name, values).astype(np.int32) - graph.tensors[name].zero_point


def out_of(graph: IntGraph, op: IntOp) -> np.ndarray:
    """float32 (1,): the ratio of the first input's scale to the output's."""
    return graph.tensors[op.inputs[0]].scale / graph.tensors[op.outputs[0]].scale


def product(graph: IntGraph, op: IntOp) -> np.ndarray:
    """float32 (1,) or (channels,): `(input scale * other scale) / output scale`, each result rounded to float32."""
    one, other = (graph.tensors[name].scale for name in op.inputs[:2])
    return one * other / graph.tensors[op.outputs[0]].scale


def requantized(graph: IntGraph, op: IntOp, accumulator: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Requantizes int32 accumulators to the integers of the output of `op`."""
    tensor = graph.tensors[op.outputs[0]]
    steps = np.rint(accumulator.astype(np.float32) * ratio)
    low, high = limits(graph, op)
    clipped = np.clip(steps, low - tensor.zero_point, high - tensor.zero_point)
    return (clipped.astype(np.int32) + tensor.zero_point).astype(tensor.dtype)


def scaled(sums: np.ndarray, ratio: np.float64) -> np.ndarray:
    """int64: `sums * ratio` as LiteRT's own kernels round it, which is the same on all CPUs.

    The factor is a whole number of 31 bits. Halves round away from zero in the product, and again in the shift.
    """
    fraction, exponent = np.frexp(ratio)
    multiplier = int(np.floor(fraction * 2**31 + 0.5))
    if multiplier == 2**31:
        multiplier, exponent = multiplier // 2, exponent + 1
    left, right = max(int(exponent), 0), max(-int(exponent), 0)
    high = (sums << left) * multiplier
    high += np.where(high >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(high >= 0, high >> 31, -((-high) >> 31))
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0)) if right else high


def margins(size: int, kernel: int, stride: int, padding: str, dilation: int = 1) -> tuple[int, int, int]:
    """`(pixels padded before, pixels padded after, output size)` of a window along an axis of `size` pixels."""
    kernel = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, 0, (size - kernel) // stride + 1
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out


def padded(op: IntOp, x: np.ndarray, kernel: Sequence[int], value: int = 0) -> tuple[np.ndarray, int, int]:
    """`(x with its margins, height, width)` of the output of a window that slides over x."""
    (sh, sw), (dh, dw) = op.options["strides"], op.options.get("dilations", (1, 1))
    top, bottom, height = margins(x.shape[1], kernel[0], sh, op.options["padding"], dh)
    left, right, width = margins(x.shape[2], kernel[1], sw, op.options["padding"], dw)
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value), height, width


def taps(op: IntOp, x: np.ndarray, kernel: Sequence[int], value: int = 0) -> Iterator[np.ndarray]:
    """For each position in the window the values there, (n, out height, out width, channels)."""
    (sh, sw), (dh, dw) = op.options["strides"], op.options.get("dilations", (1, 1))
    wide, height, width = padded(op, x, kernel, value)
    for i in range(0, kernel[0] * dh, dh):
        for j in range(0, kernel[1] * dw, dw):
            yield wide[:, i : i + (height - 1) * sh + 1 : sh, j : j + (width - 1) * sw + 1 : sw]


def looked_up(table: np.ndarray, op: IntOp, values: Values) -> np.ndarray:
    """The entries of a table for the integers -128 to 127 of the first input."""
    return table[values[op.inputs[0]].astype(np.int32) + 128]


# What float32 may make of a value of up to 256 steps.
MARGIN = 2e-4
Function = Callable[[np.ndarray, IntOp], np.ndarray]


def table_steps(function: Function) -> Callable[[IntGraph, IntOp], np.ndarray]:
    """A function that returns float64 (256,): a function of each input in steps of the output, zero point included.

    LiteRT and XNNPACK make a table of such a function once, in float32, and round to the nearest integer. Where the
    value is no half, the exact one rounds alike.
    """

    def steps(graph: IntGraph, op: IntOp) -> np.ndarray:
        x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
        real = (np.arange(-128, 128) - x.zero_point) * np.float64(x.scale[0])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = function(real, op) / np.float64(y.scale[0]) + y.zero_point
        return np.nan_to_num(found, nan=127.0, posinf=127.0, neginf=-128.0)

    return steps


def tabulated(function: Function) -> Callable[[IntGraph, IntOp, Values], np.ndarray]:
    """The reference of an operation whose kernel is a table of a function, see `table_steps`."""

    def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
        steps = np.clip(np.rint(table_steps(function)(graph, op)), *limits(graph, op))
        return looked_up(steps.astype(np.int8), op, values)

    return compute
