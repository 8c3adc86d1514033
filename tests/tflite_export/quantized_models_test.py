"""Models of `tfqnas.quantize` as integers, and integer-aware ones against theirs."""

import keras
import numpy as np
import pytest

from tests.graph.models import SHAPE, of_operations, quantized, ready, residual_model
from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact
from tflite_export import snap_biases
from tflite_export.explain import explain
from tflite_export.lower import lower
from tfqnas import quantize
from tfqnas.supernet import initialize


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_quantized_models_of_every_operation_are_exact(bits):
    x = images(SHAPE)
    model = ready(quantized(residual_model(), bits=bits), x)
    for variable in model.trainable_variables:  # biases of zero meet the halves between two codes too often
        if "step" not in variable.path:
            variable.assign_add(np.random.default_rng(3).normal(size=variable.shape) * 0.05)
    graph, plain = assert_exact(model, x)
    kinds = {op.kind for op in graph.ops}
    assert kinds >= {
        "conv_2d",
        "depthwise_conv_2d",
        "fully_connected",
        "add",
        "mul",
        "mean",
        "softmax",
        "pad",
        "max_pool_2d",
        "average_pool_2d",
        "resize_nearest",
        "reshape",
        "hard_swish",
    }
    if bits < 8:  # with 8 bits everywhere there is little to see, and halves of the average pool are most of it
        assert_evaluation_sees_the_rounding(model, x, plain)


def assert_evaluation_sees_the_rounding(model, x, integers):
    """What is left between an integer-aware model and its integers is float32's rounding next to halves."""
    aware = quantize(model, integer_aware=True)
    initialize(aware, x, missing_only=True)
    graph, of_aware = assert_exact(aware, x)
    snap_biases(aware, graph)
    snapped = lower(aware, x)
    for name, tensor in graph.tensors.items():  # they move to where the integers are
        if name.endswith("/bias"):
            np.testing.assert_array_equal(snapped.tensors[name].data, tensor.data)
    blind, seen = np.abs(integers - np.asarray(model(x))), np.abs(of_aware - np.asarray(aware(x)))
    assert np.median(seen) < 1e-6 or seen.mean() < 0.6 * blind.mean()


def test_an_integer_aware_subnet_evaluates_as_its_integers(subnets):
    model = subnets(4)
    x = images(model.input_shape[1:])
    assert_evaluation_sees_the_rounding(model, x, assert_exact(model, x)[1])


@pytest.mark.parametrize("bits", [None, 4])
def test_models_of_operations_are_exact(bits):
    x = images(SHAPE)
    model = of_operations()
    for variable in model.variables:  # else all probabilities are alike
        variable.assign_add(np.random.default_rng(3).normal(size=variable.shape) * 0.5)
    model = ready(quantized(model, bits=bits), x) if bits else model
    graph, _ = assert_exact(model, x)
    assert sum(op.kind == "hard_swish" for op in graph.ops) == 1 and graph.ops[-1].kind == "softmax"
    assert len(explain(model, graph, x, np.zeros(len(x), int))[0]) > 10


@pytest.mark.slow
def test_mobilenet_v3_of_keras_applications_is_exact():
    settings = {"weights": None, "input_shape": (64, 64, 3), "include_preprocessing": False, "classes": 10}
    model = keras.applications.MobileNetV3Small(**settings)
    x = images((64, 64, 3), n=8)
    for variable in model.variables:  # without spread probabilities are all one tenth
        if "moving" not in variable.path and "gamma" not in variable.path:
            variable.assign_add(np.random.default_rng(3).normal(size=variable.shape) * 0.1)
    assert_exact(ready(quantized(model), x), x)
