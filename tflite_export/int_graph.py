"""`IntGraph`, a network of integer tensors and integer operations as a `.tflite` file holds it.

`lower` makes such a graph from a Keras model, `reference` defines what it computes, and `writer` stores it. This module
depends neither on Keras nor on TensorFlow.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

CONVOLUTIONS = ("conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected")
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
        kind: a key of `ops.registry.OPERATIONS`.
        inputs, outputs: names of tensors.
        options: "activation" ("none", "relu", "relu6"), "strides" (two ints), "padding" ("same", "valid"), "size" of
            a pool (two ints), "paddings" of each axis but the batch (pairs of ints), "block_size" (an int).
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
        inputs, outputs: names of tensors, in the order of the Keras model's.
        normalizations: for each input `(mean, divisor)` if the Keras model's input is `(pixel - mean) / divisor` of a
            uint8 pixel, or None if it is what scale and zero point of the tensor say.
        metadata: JSON-able values that the file stores.
    """

    tensors: dict[str, IntTensor]
    ops: tuple[IntOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    normalizations: tuple[tuple[float, float] | None, ...] = ((128.0, 128.0),)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def input(self) -> str:
        """The name of the only input; raises ValueError if there are several."""
        (name,) = self.inputs
        return name

    @property
    def output(self) -> str:
        """The name of the only output; raises ValueError if there are several."""
        (name,) = self.outputs
        return name

    @property
    def normalization(self) -> tuple[float, float] | None:
        """That of the first input."""
        return self.normalizations[0]

    def producer(self, name: str) -> IntOp | None:
        """The operation that computes a tensor; None for inputs and for constants."""
        return next((op for op in self.ops if name in op.outputs), None)

    def constants(self, op: IntOp) -> list[IntTensor]:
        """The inputs of an operation that are constants."""
        return [self.tensors[n] for n in op.inputs if self.tensors[n].data is not None]


def dequantized(tensor: IntTensor, integers: np.ndarray) -> np.ndarray:
    """float32: the values that the integers of a tensor with one scale represent."""
    if tensor.dtype == "float32":
        return integers
    return (integers.astype(np.float32) - tensor.zero_point) * tensor.scale[0]


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
    spelled = {"float": "float32"}
    input_type, output_type = spelled.get(input_type, input_type), spelled.get(output_type, output_type)
    if input_type not in ("int8", "uint8", "float32") or output_type not in ("int8", "float32"):
        raise ValueError(
            f"expected int8, uint8 or float32 in, int8 or float32 out, received {input_type} and {output_type}"
        )
    return input_type, output_type


def with_interface(graph: IntGraph, input_type: str = "int8", output_type: str = "int8") -> IntGraph:
    """The graph with uint8 pixels or float32 numbers as inputs, or float32 logits as outputs.

    A shift by 128 and a product with the scale are exact. float32 inputs are what the Keras model takes, rounded to the
    scale and zero point of the input.

    Raises:
        ValueError: a type is not supported, or the graph does not go from int8 to int8.
    """
    input_type, output_type = check_interface(input_type, output_type)
    tensors, ops = dict(graph.tensors), list(graph.ops)
    types = sorted({graph.tensors[name].dtype for name in (*graph.inputs, *graph.outputs)})
    if types != ["int8"]:
        raise ValueError(f"expected a graph from int8 to int8, received {' and '.join(types)}")
    nothing = np.zeros(0, np.float32)
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    for place, name in enumerate(graph.inputs if input_type != "int8" else ()):
        tensor, entry = graph.tensors[name], f"{name}/{input_type}"
        zero = {"zero_point": tensor.zero_point + 128} if input_type == "uint8" else {"zero_point": 0, "scale": nothing}
        tensors[entry] = dataclasses.replace(tensor, name=entry, dtype=input_type, **zero)
        ops.insert(place, IntOp("quantize", (entry,), (name,), source=name))
        inputs[place] = entry
    for place, name in enumerate(graph.outputs if output_type == "float32" else ()):
        tensor, exit = graph.tensors[name], f"{name}/float32"
        tensors[exit] = dataclasses.replace(tensor, name=exit, dtype="float32", scale=nothing, zero_point=0)
        ops.append(IntOp("dequantize", (name,), (exit,), source=name))
        outputs[place] = exit
    return dataclasses.replace(graph, tensors=tensors, ops=tuple(ops), inputs=tuple(inputs), outputs=tuple(outputs))


def pixels_of(graph: IntGraph, images: Any) -> Any:
    """What the graph's inputs take for the values that the Keras model takes.

    Args:
        graph: `IntGraph`.
        images: float32 (n, ...), such as normalised 8-bit pixels (n, height, width, channels), the inverse of which is
            `(pixel - mean) / divisor`; a list of these for several inputs.

    Returns:
        An array of the type of the graph's input, or a list of these for several.
    """
    several = isinstance(images, list | tuple)
    given = list(images) if several else [images]
    result = [_integers(graph, place, np.asarray(values)) for place, values in enumerate(given)]
    return result if several else result[0]


def _integers(graph: IntGraph, place: int, values: np.ndarray) -> np.ndarray:
    tensor, normalization = graph.tensors[graph.inputs[place]], graph.normalizations[place]
    if tensor.dtype == "float32":
        return values.astype(np.float32)
    low, high = tensor.range
    if normalization is None:
        integers = np.rint(values / tensor.scale[0]) + tensor.zero_point
    else:
        mean, divisor = normalization
        integers = np.rint(values * np.float32(divisor)) + int(mean) + low
    return np.clip(integers, low, high).astype(tensor.dtype)
