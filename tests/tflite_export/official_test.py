"""The official converter, given our scales, computes our integers; the official tools read our files.

Networks of supernets are here, other operations in the file of each (`operations/`).
"""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tflite_export.conftest import images
from tests.tflite_export.official import Official, assert_agree, integers_of, only, steps_apart
from tflite_export import export
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write

# TensorFlow's own interpreter is the point of a test here.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


@pytest.mark.parametrize(
    ("bits", "relu"),
    [pytest.param(None, False, marks=pytest.mark.slow), (4, False), pytest.param(2, True, marks=pytest.mark.slow)],
)
def test_operations_of_subnets_agree_within_a_step(bits, relu, subnets):
    model = subnets(bits, relu=relu, channels=3 if relu else 1)
    x = images(model.input_shape[1:])
    kinds = assert_agree(lower(model, x), x)
    expected = {"conv_2d", "depthwise_conv_2d", "fully_connected", "add", "mul", "mean"}
    assert kinds == expected | (set() if relu else {"hard_swish"})


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
