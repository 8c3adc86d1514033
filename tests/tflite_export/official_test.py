"""The official converter, given our scales, computes our integers; the official tools read our files.

Each operation of a lowered model becomes a float TensorFlow function whose tensors are fake-quantized on our grids, and
`tf.lite.TFLiteConverter` makes an integer file of it. How it folds, rounds its constants and chooses kernels is code
that is not ours.
"""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tflite_export.conftest import images
from tflite_export import export, reference
from tflite_export.int_graph import CONVOLUTIONS, IntGraph, pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.layers import QuantDense
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize

pytestmark = [
    # It asks for statistics of the inputs where there are no representative images; the fake quantization has them.
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected:UserWarning"),
    # TensorFlow's own interpreter is the point of a test here.
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


# -- The same operations, written for the official converter ------------------------------------------------------


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
        "pad": lambda: tf.pad(x, ((0, 0), *op.options["paddings"], (0, 0))),
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
    return IntGraph({name: graph.tensors[name] for name in names}, (op,), op.inputs[0], op.outputs[0])


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


def assert_agree(model, x):
    """Returns the kinds of operations that were compared."""
    graph = lower(model, x)
    values = integers_of(graph, x)
    for op in graph.ops:
        apart = differences(graph, op, values)
        where = f"{op.kind} of {op.source}"
        assert len(np.unique(values[op.outputs[0]])) > 2, where  # not saturated everywhere
        assert apart.max() <= 1, where
        # A product with one becomes a lone RELU or QUANTIZE there, whose kernels round twice; the rest are the same
        # integers but for accumulators next to a half.
        one = op.kind == "mul" and graph.constants(op)
        assert np.mean(apart > 0) <= (0.08 if one else 0.002), where
    return {op.kind for op in graph.ops}


@pytest.mark.parametrize(
    ("bits", "relu"),
    [pytest.param(None, False, marks=pytest.mark.slow), (4, False), pytest.param(2, True, marks=pytest.mark.slow)],
)
def test_operations_of_subnets_agree_within_a_step(bits, relu, subnets):
    model = subnets(bits, relu=relu, channels=3 if relu else 1)
    kinds = assert_agree(model, images(model.input_shape[1:]))
    expected = {"conv_2d", "depthwise_conv_2d", "fully_connected", "add", "mul", "mean"}
    assert kinds == expected | (set() if relu else {"hard_swish"})


def test_operations_of_other_models_agree_within_a_step():
    from tests.graph.rewriting_test import SHAPE, quantized, ready, residual_model

    x = images(SHAPE)
    model, rng = quantized(residual_model()), np.random.default_rng(3)
    for variable in model.trainable_variables:  # biases of zero meet the halves between two codes too often
        if "step" not in variable.path:
            variable.assign_add(rng.normal(size=variable.shape) * 0.1)
    kinds = assert_agree(ready(model, x), x)
    assert kinds >= {"max_pool_2d", "average_pool_2d", "pad", "reshape", "resize_nearest", "softmax"}


@pytest.mark.parametrize("kind", ["resize_bilinear", "depth_to_space"])
def test_operations_of_super_resolution_agree_within_a_step(kind):
    from tests.graph.rewriting_test import quantized, ready
    from tests.tflite_export.models import functional
    from tests.tflite_export.operations_test import bilinear, super_resolution

    x = images((6, 6, 4))
    model = functional({"resize_bilinear": bilinear, "depth_to_space": super_resolution}[kind])
    for trained in (model, ready(quantized(model), x)):
        assert kind in assert_agree(trained, x)


def test_a_dense_layer_with_one_scale_agrees_as_a_dense_layer():
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    inputs = keras.Input((7, 5, 2))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    dense = QuantDense(9, weight_quantizer=LSQ(4), input_quantizer=LSQ(4, signed=True))
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(x)))
    initialize(model, images((7, 5, 2)))
    graph = lower(model, images((7, 5, 2)))
    op = graph.producer(graph.output)
    values = integers_of(graph, images((7, 5, 2)))
    theirs = Official(only(graph, op), [op.inputs[0]])
    assert [kind for kind, *_ in weights_in(theirs.blob)] == [BuiltinOperator.FULLY_CONNECTED]
    ours = values[graph.output]
    assert len(np.unique(ours)) > 20 and steps_apart(ours, theirs.run(values[op.inputs[0]])).max() <= 1


@pytest.mark.parametrize("relu", [False, True])
def test_a_whole_8_bit_network_agrees(relu, subnets):
    """At 8 bits there are no products with one: little is left that the official file could round differently."""
    model = subnets(None, relu=relu)
    graph = lower(model, images(model.input_shape[1:]))
    pixels = pixels_of(graph, images(model.input_shape[1:]))
    ours = Runtime(write(graph)).run(pixels)
    apart = steps_apart(ours, Official(graph, [graph.input]).run(pixels))
    assert len(np.unique(ours)) > 100 and apart.max() <= 2 and np.mean(apart > 0) < 0.05


WRONG = {
    "kernel upside down": (1, lambda t: dataclasses.replace(t, data=np.ascontiguousarray(t.data[:, ::-1]))),
    "weights of other channels": (1, lambda t: dataclasses.replace(t, data=np.roll(t.data, 1, axis=-1))),
    "a scale that is 5% larger": (1, lambda t: dataclasses.replace(t, scale=t.scale * np.float32(1.05))),
    "a bias of another channel": (2, lambda t: dataclasses.replace(t, data=np.roll(t.data, 1))),
    "zero point of the input": (0, lambda t: dataclasses.replace(t, zero_point=t.zero_point + 2)),
    "zero point of the output": (None, lambda t: dataclasses.replace(t, zero_point=t.zero_point + 2)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_differs_by_more_than_a_step(wrong, subnets):
    model = subnets(None)
    x = images(model.input_shape[1:])
    graph = lower(model, x)
    op = next(op for op in graph.ops if op.source == "stage3_block1_depthwise")
    place, change = WRONG[wrong]
    name = op.outputs[0] if place is None else op.inputs[place]
    good = only(graph, op)
    bad = dataclasses.replace(good, tensors={**good.tensors, name: change(good.tensors[name])})
    integers = integers_of(graph, x)[op.inputs[0]]
    theirs = Official(good, [good.input]).run(integers)
    assert steps_apart(Runtime(write(good)).run(integers), theirs).max() <= 1
    assert steps_apart(Runtime(write(bad)).run(integers), theirs).max() > 1


# -- The official tools and our files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(subnets):
    """A 4-bit subnet: graph, file, pixels and the logits of the file."""
    model = subnets(4)
    x = images(model.input_shape[1:])
    graph, blob = lower(model, x), export(model, x)
    return graph, blob, pixels_of(graph, x), Runtime(blob).run(pixels_of(graph, x))


def test_the_signature_runner_takes_an_image_and_gives_logits(exported):
    from ai_edge_litert.interpreter import Interpreter

    _, blob, pixels, logits = exported
    runner = Interpreter(model_content=blob).get_signature_runner("serving_default")
    np.testing.assert_array_equal(runner(image=pixels)["logits"], logits)


def test_tensorflows_own_interpreter_computes_the_same(exported):
    _, blob, pixels, logits = exported
    interpreter = tf.lite.Interpreter(model_content=blob)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), logits)


def test_the_analyzer_lists_our_operations_and_finds_nothing_wrong(exported, capsys):
    graph, blob, _, _ = exported
    tf.lite.experimental.Analyzer.analyze(model_content=blob, gpu_compatibility=True)
    listed = capsys.readouterr().out
    assert re.findall(r"Op#\d+ (\w+)\(", listed) == [op.kind.upper() for op in graph.ops]
    assert "looks compatible with GPU delegate" in listed
