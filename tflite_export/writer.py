"""Writes an `IntGraph` as the bytes of a `.tflite` file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export import metadata
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.ops.registry import OPERATIONS

METADATA = "tfqnas"
SIGNATURE = "serving_default"
_ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
_TYPES = {
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
    "int2": schema.TensorType.INT2,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "float32": schema.TensorType.FLOAT32,
}
# Versions of operators with packed weights; those for int8 weights are in `ops`.
_PACKED_VERSIONS = {"conv_2d": 7, "depthwise_conv_2d": 6, "fully_connected": 10}  # 7: no plain kernel has it


def write(graph: IntGraph) -> bytes:
    """The bytes of the `.tflite` file of an `IntGraph`."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(_model(graph).Pack(builder), b"TFL3")
    return metadata.with_labels(bytes(builder.Output()), graph.metadata.get("class_names"))


def _model(graph: IntGraph) -> schema.ModelT:
    buffers = [schema.BufferT()]  # the first buffer is empty, for tensors without data
    shared: dict[bytes, int] = {}
    index: dict[str, int] = {}
    tensors: list[schema.TensorT] = []

    def buffer(data: bytes) -> int:
        buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
        return len(buffers) - 1

    def add(tensor: IntTensor) -> None:
        index[tensor.name] = len(tensors)
        if tensor.data is None:
            place = 0
        else:
            data = _bytes(tensor.data, tensor.dtype)
            # The weights of a layer that is called several times are stored once. Its biases are not: XNNPACK knows
            # weights that it has packed, scales among them, by the places of weights and bias in the file.
            place = shared.get(data) or buffer(data)
            if tensor.dtype != "int32":
                shared[data] = place
        tensors.append(_tensor(tensor, place))

    for tensor in graph.tensors.values():
        add(tensor)
    codes = sorted({_code(graph, op) for op in graph.ops})
    operators = []
    for op in graph.ops:
        operation = OPERATIONS[op.kind]
        names = [op.inputs[place] for place in operation.order or range(len(op.inputs))]
        for number, data in enumerate(operation.arguments(graph, op)):
            name = f"{op.outputs[0]}/{op.kind}" + (f"_{number}" if number else "")
            add(IntTensor(name, data.shape, np.zeros(0, np.float32), dtype="int32", data=data))
            names.insert(number if operation.arguments_first else len(names), name)
        places = [[index[name] for name in part] for part in (names, op.outputs)]
        operators.append(_operator(graph, op, codes.index(_code(graph, op)), *places))
    subgraph = schema.SubGraphT(
        tensors=tensors,
        inputs=[index[name] for name in graph.inputs],
        outputs=[index[name] for name in graph.outputs],
        operators=operators,
        name="main",
    )
    signature = schema.SignatureDefT(
        inputs=_named(graph.inputs, "image", index),
        outputs=_named(graph.outputs, "logits", index),
        signatureKey=SIGNATURE,
    )
    texts = {METADATA: json.dumps(graph.metadata).encode(), metadata.STANDARD: metadata.standard_metadata(graph)}
    entries = [schema.MetadataT(name=name, buffer=buffer(data)) for name, data in texts.items()]
    return schema.ModelT(
        version=3,
        operatorCodes=[_operator_code(*code) for code in codes],
        subgraphs=[subgraph],
        description="tfqnas",
        buffers=buffers,
        metadata=entries,
        signatureDefs=[signature],
    )


def _named(names: Sequence[str], only: str, index: Mapping[str, int]) -> list[schema.TensorMapT]:
    """The signature's names of tensors: `only` for a single one, else what stands before the first slash."""
    plain = [only] if len(names) == 1 else [name.split("/")[0] for name in names]
    plain = plain if len(set(plain)) == len(plain) else list(names)
    return [schema.TensorMapT(name=n, tensorIndex=index[name]) for n, name in zip(plain, names, strict=True)]


def _bytes(data: np.ndarray, dtype: str) -> bytes:
    """A constant as the file holds it. Packed types have several integers per byte, the first in the lowest bits."""
    width = {"int4": 4, "int2": 2}.get(dtype)
    if width is None:
        return data.tobytes()
    values = np.zeros(-(-data.size * width // 8) * 8 // width, np.uint8)
    values[: data.size] = data.ravel().astype(np.int8).view(np.uint8) & (2**width - 1)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    return np.bitwise_or.reduce(values.reshape(-1, len(shifts)) << shifts, axis=1).astype(np.uint8).tobytes()


def _tensor(tensor: IntTensor, buffer: int) -> schema.TensorT:
    shape = list(tensor.shape) if tensor.data is not None else [1, *tensor.shape]
    quantization = None
    if len(tensor.scale):
        quantization = schema.QuantizationParametersT(
            scale=[float(s) for s in tensor.scale],
            zeroPoint=[tensor.zero_point] * len(tensor.scale),
            quantizedDimension=tensor.axis or 0,
        )
    return schema.TensorT(
        shape=shape,
        type=_TYPES[tensor.dtype],
        buffer=buffer,
        name=tensor.name,
        quantization=quantization,
        shapeSignature=None if tensor.data is not None else [-1, *tensor.shape],
        hasRank=True,
    )


def _code(graph: IntGraph, op: IntOp) -> tuple[str, int]:
    """`(name, version)`."""
    packed = any(tensor.dtype in ("int4", "int2") for tensor in graph.constants(op))
    operation = OPERATIONS[op.kind]
    version = operation.version(op) if callable(operation.version) else operation.version
    return operation.builtin, _PACKED_VERSIONS[op.kind] if packed else version


def _operator_code(name: str, version: int) -> schema.OperatorCodeT:
    code = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)


def _operator(graph: IntGraph, op: IntOp, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> schema.OperatorT:
    operation = OPERATIONS[op.kind]
    options: Any = None if operation.options is None else getattr(schema, f"{operation.options}T")()
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = _ACTIVATIONS[op.options.get("activation", "none")]
    if hasattr(options, "strideH"):
        options.strideH, options.strideW = op.options["strides"]
        options.padding = _PADDINGS[op.options["padding"]]
    for field, value in operation.fields(graph, op).items():
        if not hasattr(options, field):
            raise AttributeError(f"{operation.options} has no field {field}")
        setattr(options, field, value)
    return schema.OperatorT(
        opcodeIndex=code,
        inputs=inputs,
        outputs=outputs,
        builtinOptionsType=getattr(schema.BuiltinOptions, operation.options or "NONE"),
        builtinOptions=options,
    )
