"""The official converter, given our scales: each operation of an `IntGraph` as a file that it makes.

Each operation becomes a float TensorFlow function whose tensors are fake-quantized on our grids, and
`tf.lite.TFLiteConverter` makes an integer file of it. How it folds, rounds its constants and chooses kernels is code
that is not ours.
"""

import warnings

import numpy as np
import tensorflow as tf

from tflite_export import reference
from tflite_export.int_graph import CONVOLUTIONS, IntGraph, pixels_of
from tflite_export.runtime import Runtime
from tflite_export.writer import write


def fake_quantized(tensor, x):
    """`x` on the 256 values that an `IntTensor` has."""
    low, high = (float(tensor.scale[0]) * (q - tensor.zero_point) for q in tensor.range)
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high)


def kernel(tensor):
    """The float weights of an `IntTensor` on its grids, filters last."""
    along = [-1 if i == tensor.axis else 1 for i in range(len(tensor.shape))]
    values = np.moveaxis((tensor.data * tensor.scale.reshape(along)).astype(np.float32), tensor.axis, -1)
    top = 127 * tensor.scale
    if values.ndim == 2 and np.allclose(top, top[0], rtol=1e-5, atol=0):
        return tf.quantization.fake_quant_with_min_max_vars(values, -top[0], top[0], narrow_range=True)
    if values.ndim == 2:  # the converter refuses a matrix with a scale for each column: the same as a 1x1 convolution
        values = values[np.newaxis, np.newaxis]
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(values, -top, top, narrow_range=True)


def convolution(graph, op, x):
    weights, bias = graph.constants(op)
    w, strides, padding = kernel(weights), op.options.get("strides"), op.options.get("padding", "").upper()
    if op.kind == "depthwise_conv_2d":
        y = tf.nn.depthwise_conv2d(x, tf.reshape(w, (*w.shape[1:], 1)), (1, *strides, 1), padding)
    elif op.kind == "conv_2d":
        y = tf.nn.conv2d(x, w, strides, padding)
    elif len(w.shape) == 2:
        y = tf.reshape(x, (-1, w.shape[0])) @ w
    else:
        y = tf.nn.conv2d(tf.reshape(x, (-1, 1, 1, w.shape[2])), w, 1, "VALID")
    return y + (bias.data * bias.scale).astype(np.float32)


def pooled(pool, op, x):
    return pool(x, op.options["size"], op.options["strides"], op.options["padding"].upper())


def computed(graph, op, values):
    """The float tensor that `op` makes of the float tensors `values`, before activation and fake quantization."""
    if op.kind in CONVOLUTIONS:
        return convolution(graph, op, values[op.inputs[0]])
    x, *others = (values[name] if name in values else _constant(graph.tensors[name]) for name in op.inputs)
    shape = graph.tensors[op.outputs[0]].shape
    return {
        "mul": lambda: x * others[0],
        "add": lambda: x + others[0],
        "mean": lambda: tf.reduce_mean(x, (1, 2), keepdims=True),
        "hard_swish": lambda: x * tf.nn.relu6(x + 3.0) * np.float32(1 / 6),
        "softmax": lambda: tf.nn.softmax(x),
        "max_pool_2d": lambda: pooled(tf.nn.max_pool2d, op, x),
        "average_pool_2d": lambda: pooled(tf.nn.avg_pool2d, op, x),
        "pad": lambda: tf.pad(x, ((0, 0), *op.options["paddings"])),
        "reshape": lambda: tf.reshape(x, (-1, *shape)),
        "resize_nearest": lambda: tf.raw_ops.ResizeNearestNeighbor(images=x, size=shape[:2], half_pixel_centers=True),
        "resize_bilinear": lambda: tf.raw_ops.ResizeBilinear(images=x, size=shape[:2], half_pixel_centers=True),
        "depth_to_space": lambda: tf.nn.depth_to_space(x, op.options["block_size"]),
    }[op.kind]()


def _constant(tensor):
    return (tensor.data * tensor.scale).astype(np.float32)


ACTIVATIONS = {"none": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def official(graph, inputs):
    """The bytes of the official converter's file of `graph`; `inputs`: names of the tensors that it takes."""
    specs = [tf.TensorSpec((1, *graph.tensors[name].shape), name=f"x{i}") for i, name in enumerate(inputs)]

    @tf.function(input_signature=specs, autograph=False)
    def mirror(*xs):
        values = {name: fake_quantized(graph.tensors[name], x) for name, x in zip(inputs, xs, strict=True)}
        for op in graph.ops:
            tensor = graph.tensors[op.outputs[0]]
            y = ACTIVATIONS[op.options.get("activation", "none")](computed(graph, op, values))
            values[tensor.name] = fake_quantized(tensor, tf.reshape(y, (-1, *tensor.shape)))
        return values[graph.output]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([mirror.get_concrete_function()], mirror)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # It asks for statistics of the inputs where there are no representative images: the fake quantization has them.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        return converter.convert()


class Official:
    """The official converter's file in LiteRT."""

    def __init__(self, graph, inputs):
        from ai_edge_litert.interpreter import Interpreter

        self.blob = official(graph, inputs)
        self._interpreter = Interpreter(model_content=self.blob, num_threads=1)
        self._interpreter.allocate_tensors()
        self.inputs = sorted(self._interpreter.get_input_details(), key=lambda detail: detail["name"])
        (self.output,) = self._interpreter.get_output_details()
        self._check(graph, inputs)

    def _check(self, graph, inputs):
        """Scales, zero points and weights are ours: what is left to compare is the arithmetic."""
        for name, detail in zip((*inputs, graph.output), (*self.inputs, self.output), strict=True):
            scale, zero = detail["quantization"]
            np.testing.assert_allclose(scale, graph.tensors[name].scale[0], rtol=1e-6)
            assert zero == graph.tensors[name].zero_point
        ours = [graph.constants(op)[0] for op in graph.ops if op.kind in CONVOLUTIONS]
        for tensor, (_, integers, scales) in zip(ours, weights_in(self.blob), strict=True):
            np.testing.assert_array_equal(integers, tensor.data.ravel())
            np.testing.assert_allclose(np.broadcast_to(scales, tensor.scale.shape), tensor.scale, rtol=1e-6)

    def run(self, *inputs):
        """Its integers for int8 inputs (n, ...), one image at a time: that is the shape it was converted for."""
        results = []
        for values in zip(*inputs, strict=True):
            for place, x in zip(self.inputs, values, strict=True):
                self._interpreter.set_tensor(place["index"], x[np.newaxis])
            self._interpreter.invoke()
            results.append(self._interpreter.get_tensor(self.output["index"])[0])
        return np.array(results)


def weights_in(blob):
    """`[(operator, int8 values, scales)]` of the convolutions and dense layers in a file, in its order."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    kinds = schema.BuiltinOperator
    (graph,), found = model.subgraphs, []
    for op in graph.operators:
        kind = model.operatorCodes[op.opcodeIndex].builtinCode
        if kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED):
            tensor = graph.tensors[op.inputs[1]]
            found.append((kind, np.array(model.buffers[tensor.buffer].data).view(np.int8), tensor.quantization.scale))
    return found


def only(graph, op):
    """The graph of one operation."""
    names = (*op.inputs, *op.outputs)
    return IntGraph({name: graph.tensors[name] for name in names}, (op,), op.inputs[:1], op.outputs)


def integers_of(graph, x):
    """int8, of every activation of the graph, by name."""
    pixels = pixels_of(graph, x)
    names = [name for name, tensor in graph.tensors.items() if tensor.data is None and name != graph.input]
    output, values = reference.run(graph, pixels, keep=names)
    # LiteRT shows the output alone, and the same one: the reference stands for what is inside our file.
    np.testing.assert_array_equal(output, Runtime(write(graph)).run(pixels))
    return {**values, graph.input: pixels}


def steps_apart(ours, theirs):
    return np.abs(theirs.reshape(ours.shape).astype(int) - ours)


def differences(graph, op, values):
    """In steps of its output: the official file of `op` alone against our integers `values`, on the same integers."""
    inputs = [name for name in dict.fromkeys(op.inputs) if graph.tensors[name].data is None]
    theirs = Official(only(graph, op), inputs).run(*(values[name] for name in inputs))
    return steps_apart(values[op.outputs[0]], theirs)


def assert_agree(graph, x, kinds=None):
    """Operation by operation, of `kinds` alone if there are any; returns the kinds that were compared."""
    values = integers_of(graph, x)
    compared = [op for op in graph.ops if kinds is None or op.kind in kinds]
    for op in compared:
        apart = differences(graph, op, values)
        where = f"{op.kind} of {op.source}"
        assert len(np.unique(values[op.outputs[0]])) > 2, where  # not saturated everywhere
        assert apart.max() <= 1, where
        # A product with one becomes a lone RELU or QUANTIZE there, whose kernels round twice; the rest are the same
        # integers but for accumulators next to a half.
        one = op.kind == "mul" and graph.constants(op)
        assert np.mean(apart > 0) <= (0.08 if one else 0.002), where
    return {op.kind for op in compared}
