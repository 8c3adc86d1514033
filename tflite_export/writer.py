"""Writes an `IntGraph` as the bytes of a `.tflite` file."""

import json
from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export import metadata
from tflite_export.int_graph import IntGraph, IntOp, IntTensor

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
# Versions of operators with packed weights. The versions for int8 weights are in `_OPERATORS`.
_PACKED_VERSIONS = {"conv_2d": 7, "depthwise_conv_2d": 6, "fully_connected": 10}  # 7: no plain kernel has it
# Operator code, version for int8, name of the options in the schema.
_OPERATORS = {
    "conv_2d": (schema.BuiltinOperator.CONV_2D, 3, "Conv2DOptions"),
    "depthwise_conv_2d": (schema.BuiltinOperator.DEPTHWISE_CONV_2D, 3, "DepthwiseConv2DOptions"),
    "fully_connected": (schema.BuiltinOperator.FULLY_CONNECTED, 4, "FullyConnectedOptions"),
    "mul": (schema.BuiltinOperator.MUL, 2, "MulOptions"),
    "add": (schema.BuiltinOperator.ADD, 2, "AddOptions"),
    "mean": (schema.BuiltinOperator.MEAN, 2, "ReducerOptions"),
    "hard_swish": (schema.BuiltinOperator.HARD_SWISH, 1, "HardSwishOptions"),
    "softmax": (schema.BuiltinOperator.SOFTMAX, 2, "SoftmaxOptions"),
    "max_pool_2d": (schema.BuiltinOperator.MAX_POOL_2D, 2, "Pool2DOptions"),
    "average_pool_2d": (schema.BuiltinOperator.AVERAGE_POOL_2D, 2, "Pool2DOptions"),
    "pad": (schema.BuiltinOperator.PAD, 2, "PadOptions"),
    "reshape": (schema.BuiltinOperator.RESHAPE, 1, "ReshapeOptions"),
    "depth_to_space": (schema.BuiltinOperator.DEPTH_TO_SPACE, 2, "DepthToSpaceOptions"),
    "resize_nearest": (schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR, 3, "ResizeNearestNeighborOptions"),
    "resize_bilinear": (schema.BuiltinOperator.RESIZE_BILINEAR, 3, "ResizeBilinearOptions"),
    "quantize": (schema.BuiltinOperator.QUANTIZE, 2, "QuantizeOptions"),
    "dequantize": (schema.BuiltinOperator.DEQUANTIZE, 2, "DequantizeOptions"),
}


def write(graph: IntGraph) -> bytes:
    """The bytes of the `.tflite` file of an `IntGraph`."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(_model(graph).Pack(builder), b"TFL3")
    return metadata.with_labels(bytes(builder.Output()), graph.metadata.get("class_names"))


def _model(graph: IntGraph) -> schema.ModelT:
    buffers = [schema.BufferT()]  # the first buffer is empty, for tensors without data
    index: dict[str, int] = {}
    tensors: list[schema.TensorT] = []

    def buffer(data: bytes) -> int:
        buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
        return len(buffers) - 1

    def add(tensor: IntTensor) -> None:
        index[tensor.name] = len(tensors)
        tensors.append(_tensor(tensor, 0 if tensor.data is None else buffer(_bytes(tensor.data, tensor.dtype))))

    for tensor in graph.tensors.values():
        add(tensor)
    codes = sorted({_code(graph, op) for op in graph.ops})
    operators = []
    for op in graph.ops:
        names = list(op.inputs)
        if (argument := _argument(graph, op)) is not None:
            add(argument)
            names.append(argument.name)
        places = [[index[name] for name in part] for part in (names, op.outputs)]
        operators.append(_operator(op, codes.index(_code(graph, op)), *places))
    subgraph = schema.SubGraphT(
        tensors=tensors, inputs=[index[graph.input]], outputs=[index[graph.output]], operators=operators, name="main"
    )
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT(name="image", tensorIndex=index[graph.input])],
        outputs=[schema.TensorMapT(name="logits", tensorIndex=index[graph.output])],
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


def _bytes(data: np.ndarray, dtype: str) -> bytes:
    """A constant as the file holds it. Packed types have several integers per byte, the first in the lowest bits."""
    width = {"int4": 4, "int2": 2}.get(dtype)
    if width is None:
        return data.tobytes()
    values = np.zeros(-(-data.size * width // 8) * 8 // width, np.uint8)
    values[: data.size] = data.ravel().astype(np.int8).view(np.uint8) & (2**width - 1)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    return np.bitwise_or.reduce(values.reshape(-1, len(shifts)) << shifts, axis=1).astype(np.uint8).tobytes()


def _argument(graph: IntGraph, op: IntOp) -> IntTensor | None:
    """The int32 tensor that an operation takes as another argument, such as axes or a shape, or None."""
    shape = graph.tensors[op.outputs[0]].shape
    numbers = {
        "mean": lambda: [1, 2],
        "reshape": lambda: [-1, *shape],
        "pad": lambda: [(0, 0), *op.options["paddings"], (0, 0)],
        "resize_nearest": lambda: shape[:2],
        "resize_bilinear": lambda: shape[:2],
    }.get(op.kind)
    if numbers is None:
        return None
    data = np.array(numbers(), np.int32)
    return IntTensor(f"{op.outputs[0]}/{op.kind}", data.shape, np.zeros(0, np.float32), dtype="int32", data=data)


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
    """`(kind, version)`."""
    packed = any(tensor.dtype in ("int4", "int2") for tensor in graph.constants(op))
    return op.kind, _PACKED_VERSIONS[op.kind] if packed else _OPERATORS[op.kind][1]


def _operator_code(kind: str, version: int) -> schema.OperatorCodeT:
    code = _OPERATORS[kind][0]
    return schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)


def _operator(op: IntOp, code: int, inputs: Sequence[int], outputs: Sequence[int]) -> schema.OperatorT:
    name = _OPERATORS[op.kind][2]
    options = getattr(schema, f"{name}T")()
    activation = _ACTIVATIONS[op.options.get("activation", "none")]
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = activation
    if hasattr(options, "strideH"):
        options.strideH, options.strideW = op.options["strides"]
        options.padding = _PADDINGS[op.options["padding"]]
    if hasattr(options, "dilationHFactor"):
        options.dilationHFactor = options.dilationWFactor = 1
    if hasattr(options, "filterHeight"):
        options.filterHeight, options.filterWidth = op.options["size"]
    if hasattr(options, "halfPixelCenters"):
        options.halfPixelCenters = True
    if hasattr(options, "beta"):
        options.beta = 1.0
    if hasattr(options, "blockSize"):
        options.blockSize = op.options["block_size"]
    if op.kind == "depthwise_conv_2d":
        options.depthMultiplier = 1
    if op.kind == "mean":
        options.keepDims = True
    return schema.OperatorT(
        opcodeIndex=code,
        inputs=inputs,
        outputs=outputs,
        builtinOptionsType=getattr(schema.BuiltinOptions, name),
        builtinOptions=options,
    )
