"""Computes an `IntGraph` in numpy. This is the specification of the `.tflite` file and the evaluation of record.

The arithmetic is that of XNNPACK, LiteRT's default on CPUs. Accumulators are int32. Requantization is
`rint(float32(accumulator) * ratio)` in float32 with ties to even, followed by zero point and clipping; only means
differ (`int_graph.mean_steps`). ARM64 rounds ties up, which is why the exporter removes them (`ties`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp, IntTensor, limits, mean_steps, ratios


@overload
def run(graph: IntGraph, pixels: np.ndarray, batch_size: int = 256) -> np.ndarray: ...
@overload
def run(
    graph: IntGraph, pixels: np.ndarray, batch_size: int = 256, *, keep: Collection[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]: ...
def run(
    graph: IntGraph, pixels: np.ndarray, batch_size: int = 256, keep: Collection[str] = ()
) -> np.ndarray | tuple[np.ndarray, dict[str, np.ndarray]]:
    """The integers that the graph computes.

    Args:
        graph: `IntGraph`.
        pixels: integers of the graph's input type, (n, height, width, channels).
        batch_size: number of images that are computed at a time.
        keep: names of other tensors to return.

    Returns:
        The output's integers (n, ...). With `keep` a tuple of these and `{name: integers}` of the tensors in `keep`.
    """
    outputs: list[np.ndarray] = []
    kept: dict[str, list[np.ndarray]] = {name: [] for name in keep}
    for start in range(0, len(pixels), batch_size):
        values = _run_batch(graph, pixels[start : start + batch_size], set(keep))
        outputs.append(values[graph.output])
        for name in keep:
            kept[name].append(values[name])
    result = np.concatenate(outputs)
    return (result, {name: np.concatenate(v) for name, v in kept.items()}) if keep else result


def logits(graph: IntGraph, integers: np.ndarray) -> np.ndarray:
    """float32: the values that the integers of the graph's output represent."""
    return dequantized(graph.tensors[graph.output], integers)


def dequantized(tensor: IntTensor, integers: np.ndarray) -> np.ndarray:
    """float32: the values that the integers of a tensor with one scale represent."""
    return (integers.astype(np.float32) - tensor.zero_point) * tensor.scale[0]


def _run_batch(graph: IntGraph, pixels: np.ndarray, keep: Collection[str]) -> dict[str, np.ndarray]:
    last_use = {name: i for i, op in enumerate(graph.ops) for name in op.inputs}
    values = {graph.input: pixels}
    for i, op in enumerate(graph.ops):
        values[op.outputs[0]] = OPS[op.kind](graph, op, values)
        for name in op.inputs:  # frees activations after their last use
            if last_use[name] == i and name not in keep and name != graph.output:
                values.pop(name, None)
    return values


def requantized(graph: IntGraph, op: IntOp, accumulator: np.ndarray) -> np.ndarray:
    """Requantizes int32 accumulators to the integers of the output of `op`."""
    tensor = graph.tensors[op.outputs[0]]
    steps = np.rint(accumulator.astype(np.float32) * ratios(graph, op))
    low, high = limits(graph, op)
    clipped = np.clip(steps, low - tensor.zero_point, high - tensor.zero_point)
    return (clipped.astype(np.int32) + tensor.zero_point).astype(tensor.dtype)


def _centred(graph: IntGraph, name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """An activation or a constant as int32 with its zero point subtracted."""
    tensor = graph.tensors[name]
    data = values[name] if tensor.data is None else tensor.data
    return data.astype(np.int32) - tensor.zero_point


def margins(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int, int]:
    """`(pixels padded before, pixels padded after, output size)` of a window along an axis of `size` pixels."""
    if padding == "valid":
        return 0, 0, (size - kernel) // stride + 1
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out


def _padded(op: IntOp, x: np.ndarray, kernel: Sequence[int], value: int = 0) -> tuple[np.ndarray, int, int]:
    (sh, sw), (kh, kw) = op.options["strides"], kernel
    top, bottom, height = margins(x.shape[1], kh, sh, op.options["padding"])
    left, right, width = margins(x.shape[2], kw, sw, op.options["padding"])
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value), height, width


def _taps(op: IntOp, x: np.ndarray, kernel: Sequence[int], value: int = 0) -> Iterator[np.ndarray]:
    """For each position in the window the values there, (n, out height, out width, channels)."""
    (sh, sw), (padded, height, width) = op.options["strides"], _padded(op, x, kernel, value)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield padded[:, i : i + (height - 1) * sh + 1 : sh, j : j + (width - 1) * sw + 1 : sw]


def _conv_2d(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, kernel, bias = (_centred(graph, name, values) for name in op.inputs)
    filters, kh, kw, channels = kernel.shape
    (sh, sw), (padded, height, width) = op.options["strides"], _padded(op, x, (kh, kw))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), (1, 2))[:, ::sh, ::sw]
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * channels)
    # float64 holds every sum of int8 products exactly, and its matrix product is faster than that of integers.
    sums = rows.astype(np.float64) @ kernel.reshape(filters, -1).T.astype(np.float64)
    accumulator = sums.astype(np.int32).reshape(len(x), height, width, filters) + bias
    return requantized(graph, op, accumulator)


def _depthwise_conv_2d(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, kernel, bias = (_centred(graph, name, values) for name in op.inputs)
    weights = kernel[0].reshape(-1, len(bias))
    accumulator = sum(tap * w for tap, w in zip(_taps(op, x, kernel.shape[1:3]), weights, strict=True)) + bias
    return requantized(graph, op, accumulator)


def _fully_connected(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, kernel, bias = (_centred(graph, name, values) for name in op.inputs)
    rows = x.reshape(len(x), -1).astype(np.float64)
    return requantized(graph, op, (rows @ kernel.T.astype(np.float64)).astype(np.int32) + bias)


def _mul(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, y = (_centred(graph, name, values) for name in op.inputs)
    return requantized(graph, op, x * y)


def _add(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Both inputs and the output share one scale, so that nothing is rounded."""
    x, y = (_centred(graph, name, values) for name in op.inputs)
    return requantized(graph, op, x + y)


def _mean(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    sums = values[op.inputs[0]].sum(axis=(1, 2), keepdims=True, dtype=np.int32)
    return np.clip(np.rint(mean_steps(graph, op, sums)), *limits(graph, op)).astype(np.int8)


def _max_pool_2d(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    taps = _taps(op, values[op.inputs[0]], op.options["size"], value=-128)
    return np.maximum.reduce(list(taps))


def _average_pool_2d(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Averages the integers, zero point included, over the pixels inside the image; halves round away from zero."""
    x = values[op.inputs[0]].astype(np.int32)
    sums, counts = sum(_taps(op, x, op.options["size"])), sum(_taps(op, np.ones_like(x[:1]), op.options["size"]))
    return (np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)).astype(np.int8)


def _pad(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    tensor = graph.tensors[op.inputs[0]]
    margins = ((0, 0), *op.options["paddings"], (0, 0))
    return np.pad(values[tensor.name], margins, constant_values=tensor.zero_point)


def _reshape(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    return values[op.inputs[0]].reshape(-1, *graph.tensors[op.outputs[0]].shape)


def _depth_to_space(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, size = values[op.inputs[0]], op.options["block_size"]
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height, width, size, size, channels // size**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * size, width * size, -1)


def _resize_nearest(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    x, (height, width, _) = values[op.inputs[0]], graph.tensors[op.outputs[0]].shape
    return x[:, _nearest(height, x.shape[1])][:, :, _nearest(width, x.shape[2])]


def _nearest(size: int, source: int) -> np.ndarray:
    """int (size,): the source pixel of each output pixel along an axis, with half-pixel centres."""
    scale = np.float32(source) / np.float32(size)
    places = np.floor((np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale).astype(int)
    return np.minimum(places, source - 1)


def _resize_bilinear(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """XNNPACK's integer kernel: weights in units of 1/2048 along each axis, rounded once with halves up."""
    x, (height, width, _) = values[op.inputs[0]].astype(np.int64), graph.tensors[op.outputs[0]].shape
    (top, bottom, down), (left, right, along) = _between(height, x.shape[1]), _between(width, x.shape[2])
    rows = (x[:, :, left] << 11) + (x[:, :, right] - x[:, :, left]) * along[:, np.newaxis]
    sums = (rows[:, top] << 11) + (rows[:, bottom] - rows[:, top]) * down[:, np.newaxis, np.newaxis]
    return ((sums + (1 << 21)) >> 22).astype(np.int8)


def _between(size: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels around each output pixel, and its distance from the first in units of 1/2048."""
    scale = np.float32(source) / np.float32(size)
    offset = np.float32(0.5) * scale - np.float32(0.5)
    places = np.clip(np.arange(size, dtype=np.float32) * scale + offset, 0, np.float32(source - 1))
    first = places.astype(int)
    return first, np.minimum(first + 1, source - 1), np.rint((places - first.astype(np.float32)) * 2048).astype(int)


def _softmax(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """LiteRT's kernel with a table of `exp` of the distance to the largest integer, in float32."""
    x = values[op.inputs[0]].astype(np.int32)
    scale = graph.tensors[op.inputs[0]].scale[0]
    table = np.exp(-scale * np.arange(256, dtype=np.float32)).astype(np.float32)
    powers = table[x.max(axis=-1, keepdims=True) - x]
    total = np.add.accumulate(powers, axis=-1, dtype=np.float32)[..., -1:]
    y = graph.tensors[op.outputs[0]]
    probabilities = powers * (np.float32(1) / (total * y.scale[0]))
    return np.clip(np.rint(probabilities).astype(np.int32) + y.zero_point, -128, 127).astype(np.int8)


def _quantize(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Converts uint8 to int8 with the same scale, a shift by 128."""
    x = _centred(graph, op.inputs[0], values)
    tensor = graph.tensors[op.outputs[0]]
    return (x + tensor.zero_point).astype(tensor.dtype)


def _dequantize(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    return dequantized(graph.tensors[op.inputs[0]], values[op.inputs[0]])


def _hard_swish(graph: IntGraph, op: IntOp, values: Mapping[str, np.ndarray]) -> np.ndarray:
    table = hard_swish_table(graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]])
    return table[values[op.inputs[0]].astype(np.int32) + 128]


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


OPS = {
    "conv_2d": _conv_2d,
    "depthwise_conv_2d": _depthwise_conv_2d,
    "fully_connected": _fully_connected,
    "mul": _mul,
    "add": _add,
    "mean": _mean,
    "hard_swish": _hard_swish,
    "softmax": _softmax,
    "max_pool_2d": _max_pool_2d,
    "average_pool_2d": _average_pool_2d,
    "pad": _pad,
    "reshape": _reshape,
    "depth_to_space": _depth_to_space,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "quantize": _quantize,
    "dequantize": _dequantize,
}
