"""FULLY_CONNECTED: dense layers."""

import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.ops import contract

KIND = "fully_connected"


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("fused", ["none", "relu"])
@pytest.mark.parametrize("shape", [(48,), (1, 1, 48)])
def test_litert_computes_the_same_integers(shape, fused, bits, rng):
    graph = contract.convolution(rng, KIND, shape, 10, 1, bits, activation=fused)
    contract.assert_litert_agrees(graph, contract.codes(rng, graph.tensors["x"]))


def test_factors_are_rounded_in_xnnpacks_order(rng):
    contract.assert_factors_are_rounded_in_xnnpacks_order(KIND, rng)


def hidden(layers, x):
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(x))
    return layers.Dense(5)(layers.Dense(12, activation="relu")(x))


def gate(layers, x):
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.Dense(3, activation="relu")(layers.GlobalAveragePooling2D()(x))
    y = layers.Reshape((1, 1, 8))(layers.Dense(8, activation="hard_sigmoid")(y))
    return layers.GlobalAveragePooling2D()(layers.Multiply()([x, y]))


@pytest.mark.parametrize("build", [hidden, gate])
def test_models_with_it_are_exact_and_close_to_the_float_model(build, assert_lowers):
    assert_lowers(KIND, build)


def test_with_one_scale_it_agrees_with_the_official_dense_layer(keras, same_weights):
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    from tests.tflite_export.official import Official, integers_of, only, steps_apart, weights_in
    from tflite_export.lower import lower
    from tfqnas.layers import QuantDense
    from tfqnas.quantizers import LSQ
    from tfqnas.supernet import initialize

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


def test_what_it_cannot_compute_is_refused(assert_refused):
    def not_finite(layers, x):
        return layers.Dense(3, bias_initializer=keras_nan, name="inner")(layers.Flatten()(x))

    def keras_nan(shape, dtype=None):
        return np.full(shape, np.nan, np.float32)

    assert_refused(r"not finite", not_finite)
