"""Keras models that the tests of the exporter lower, and the check that their integers are exact."""

import keras
import numpy as np

from tests.tflite_export.conftest import images
from tflite_export import reference
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.layers import QuantConv2D
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize


def assert_exact(model, x, **settings):
    """Lowers, runs both, and returns the graph and the reference's logits."""
    graph = lower(model, x, **settings)
    integers = reference.run(graph, pixels_of(graph, x))
    np.testing.assert_array_equal(integers, Runtime(write(graph)).run(pixels_of(graph, x)))
    assert len(np.unique(integers)) > 8
    return graph, reference.logits(graph, integers)


def chain(*layers, shape=(7, 5, 2), classes=4):
    """A small model of these layers with a classifier behind, initialised on `images(shape)`."""
    inputs = keras.Input(shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(classes, name="classifier")(x))
    initialize(model, images(shape))
    return model


def quantized(filters=6, size=3, bits=4, signed=False, **settings):
    quantizers = {"weight_quantizer": LSQ(bits), "input_quantizer": LSQ(bits, signed=signed)}
    return QuantConv2D(filters, size, padding="same", **quantizers, **settings)


def norm(gamma, mean=0.1, variance=0.3, name="norm"):
    layer = keras.layers.BatchNormalization(name=name)
    layer.build((None, None, None, len(gamma)))
    beta = np.linspace(-0.5, 0.5, len(gamma))
    layer.set_weights([np.array(gamma), beta, np.full(len(gamma), mean), np.full(len(gamma), variance)])
    return layer


def functional(build, shape=(6, 6, 4)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, build(inputs))


def pooled(x, **settings):
    return keras.layers.GlobalAveragePooling2D(**settings)(x)
