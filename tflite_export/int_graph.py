"""`IntGraph`, a network of integer tensors and integer operations as a `.tflite` file holds it.

`lower` makes such a graph from a Keras model, `reference` defines what it computes, and `writer` stores it. This module
depends neither on Keras nor on TensorFlow.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

CONVOLUTIONS = ("conv_2d", "depthwise_conv_2d", "fully_connected")
# Operations that do not multiply by a ratio of scales: tables, copies, and kernels with one scale.
UNSCALED = (
    "quantize",
    "dequantize",
    "hard_swish",
    "softmax",
    "average_pool_2d",
    "max_pool_2d",
    "pad",
    "reshape",
    "resize_nearest",
    "resize_bilinear",
    "depth_to_space",
)
RANGES = {"int8": (-128, 127), "int4": (-8, 7), "int2": (-2, 1), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1)}


@dataclasses.dataclass(frozen=True)
class IntTensor:
    """Integers `q` that stand for `scale * (q - zero_point)`.

    Args:
        name: unique in its graph.
        shape: of an activation without the batch axis, of a constant the full shape.
        scale: float32 (1,), or (channels,) along `axis` for constants.
        zero_point: the same for all channels.
        dtype: "int8", "uint8", "int32", "float32" (a dequantized output, without a scale), or "int4" and "int2" for
            weights. The latter hold their data as int8 in memory; only the file packs them.
        data: the values of a constant; None for an activation.
        axis: the axis along which each channel has its own scale; None for a single scale.
        bits: bit width of the codes; 8 unless they use fewer.
    """

    name: str
    shape: tuple[int, ...]
    scale: np.ndarray
    zero_point: int = 0
    dtype: str = "int8"
    data: np.ndarray | None = None
    axis: int | None = None
    bits: int = 8

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest integer that the type holds."""
        return RANGES[self.dtype]


@dataclasses.dataclass(frozen=True)
class IntOp:
    """One operation.

    Args:
        kind: a key of `reference.OPS`.
        inputs, outputs: names of tensors.
        options: "activation" ("none", "relu", "relu6"), "strides" (two ints), "padding" ("same", "valid"), "size" of
            a pool (two ints), "paddings" of both axes (two pairs of ints), "block_size" (an int).
        source: name of the Keras layer that the operation belongs to.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    source: str = ""


@dataclasses.dataclass(frozen=True)
class IntGraph:
    """Operations in the order of their computation.

    Args:
        tensors: `IntTensor` by name.
        ops: `IntOp`s.
        input, output: names of tensors.
        normalization: `(mean, divisor)`; the Keras model's input is `(pixel - mean) / divisor` of a uint8 pixel.
        metadata: JSON-able values that the file stores.
    """

    tensors: dict[str, IntTensor]
    ops: tuple[IntOp, ...]
    input: str
    output: str
    normalization: tuple[float, float] = (128.0, 128.0)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def producer(self, name: str) -> IntOp | None:
        """The operation that computes a tensor; None for the input and for constants."""
        return next((op for op in self.ops if name in op.outputs), None)

    def constants(self, op: IntOp) -> list[IntTensor]:
        """The inputs of an operation that are constants."""
        return [self.tensors[n] for n in op.inputs if self.tensors[n].data is not None]


def ratios(graph: IntGraph, op: IntOp) -> np.ndarray:
    """float32 (1,) or (channels,): the value of one accumulator unit of `op`, in steps of its output.

    Computed in XNNPACK's order, `(input scale * other scale) / output scale`, with each result rounded to float32.
    """
    one = graph.tensors[op.inputs[0]].scale
    out = graph.tensors[op.outputs[0]].scale
    if op.kind in (*CONVOLUTIONS, "mul"):
        return one * graph.tensors[op.inputs[1]].scale / out
    if op.kind == "mean":
        return one / out * (np.float32(1) / _pixels(graph, op))
    return one / out


def mean_steps(graph: IntGraph, op: IntOp, sums: np.ndarray) -> np.ndarray:
    """float32: the means of a mean operation in steps of its output before rounding, from `sums` over the pixels.

    XNNPACK multiplies the sum of the integers including their zero point, and corrects for the zero point afterwards.
    Close to a half, another order of these roundings would give another integer.
    """
    factor = ratios(graph, op)
    x, y = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]]
    bias = np.float32(y.zero_point) - np.float32(x.zero_point) * _pixels(graph, op) * factor
    return sums.astype(np.float32) * factor + bias


def _pixels(graph: IntGraph, op: IntOp) -> np.float32:
    return np.float32(np.prod(graph.tensors[op.inputs[0]].shape[:-1]))


def limits(graph: IntGraph, op: IntOp) -> tuple[int, int]:
    """Lowest and highest integer of the output of `op`, after its fused activation."""
    tensor = graph.tensors[op.outputs[0]]
    low, high = tensor.range
    activation = op.options.get("activation", "none")
    if activation in ("relu", "relu6"):
        low = max(low, tensor.zero_point)
    if activation == "relu6":
        high = min(high, tensor.zero_point + int(np.rint(np.float32(6) / tensor.scale[0])))
    return low, high


def is_packed(graph: IntGraph) -> bool:
    """Whether some weights are packed, several to a byte. LiteRT's exact kernels do not support them."""
    return any(tensor.dtype in ("int4", "int2") for tensor in graph.tensors.values())


def not_packed(graph: IntGraph) -> dict[str, str]:
    """`{layer: reason}` for the layers whose weights take one byte each."""
    found = {}
    for op in graph.ops:
        weights = graph.tensors[op.inputs[1]] if op.kind in CONVOLUTIONS else None
        if weights is not None and weights.dtype == "int8":
            turned = "a negative BatchNorm factor turns weight -8 into 8, beyond 4 bits; train with narrow_range=True"
            found[op.source] = f"{weights.bits}-bit weights" if weights.bits > 4 else turned
    return found


def with_metadata(graph: IntGraph, **entries: Any) -> IntGraph:
    """A copy of the graph with additional metadata."""
    return dataclasses.replace(graph, metadata={**graph.metadata, **entries})


def check_interface(input_type: str, output_type: str) -> tuple[str, str]:
    """`(input type, output type)` with "float" spelled out as "float32".

    Raises:
        ValueError: a type is not supported.
    """
    output_type = "float32" if output_type == "float" else output_type
    if input_type not in ("int8", "uint8") or output_type not in ("int8", "float32"):
        raise ValueError(f"expected int8 or uint8 in, int8 or float32 out, received {input_type} and {output_type}")
    return input_type, output_type


def with_interface(graph: IntGraph, input_type: str = "int8", output_type: str = "int8") -> IntGraph:
    """The graph with uint8 pixels as input or float32 logits as output.

    Both conversions are exact: a shift by 128, and a product with the scale.

    Raises:
        ValueError: a type is not supported, or the graph does not go from int8 to int8.
    """
    input_type, output_type = check_interface(input_type, output_type)
    tensors, ops = dict(graph.tensors), list(graph.ops)
    first, last = graph.tensors[graph.input], graph.tensors[graph.output]
    if (first.dtype, last.dtype) != ("int8", "int8"):
        raise ValueError(f"expected a graph from int8 to int8, received {first.dtype} to {last.dtype}")
    entry, exit = first.name, last.name
    if input_type == "uint8":
        entry = f"{first.name}/uint8"
        tensors[entry] = dataclasses.replace(first, name=entry, dtype="uint8", zero_point=first.zero_point + 128)
        ops.insert(0, IntOp("quantize", (entry,), (first.name,), source=first.name))
    if output_type == "float32":
        exit = f"{last.name}/float32"
        nothing = np.zeros(0, np.float32)
        tensors[exit] = dataclasses.replace(last, name=exit, dtype="float32", scale=nothing, zero_point=0)
        ops.append(IntOp("dequantize", (last.name,), (exit,), source=last.name))
    return dataclasses.replace(graph, tensors=tensors, ops=tuple(ops), input=entry, output=exit)


def pixels_of(graph: IntGraph, images: np.ndarray) -> np.ndarray:
    """The integers of the graph's input for normalised images, the inverse of `(pixel - mean) / divisor`.

    Args:
        graph: `IntGraph`.
        images: float32 (n, height, width, channels), with values that are normalised 8-bit pixels.
    """
    tensor = graph.tensors[graph.input]
    integers = np.rint(np.asarray(images) / tensor.scale[0]) + tensor.zero_point
    low, high = tensor.range
    return np.clip(integers, low, high).astype(tensor.dtype)
