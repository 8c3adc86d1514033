"""What the tests of the exporter share."""

import dataclasses

import keras
import numpy as np
import pytest

from tflite_export import reference
from tflite_export.int_graph import pixels_of
from tflite_export.lower import lower
from tflite_export.runtime import Runtime
from tflite_export.writer import write
from tfqnas.layers import QuantConv2D
from tfqnas.quantizers import LSQ
from tfqnas.supernet import initialize


def images(shape, n=48, seed=0):
    """On the grid of 8-bit pixels, as evaluation images are: blobs, whose neighbours are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-128, 128, (n, -(-shape[0] // 3), -(-shape[1] // 3), shape[2]))
    fine = np.repeat(np.repeat(coarse, 3, 1), 3, 2)[:, : shape[0], : shape[1]] + rng.integers(-20, 21, (n, *shape))
    return np.clip(fine, -128, 127).astype(np.float32) / 128


@pytest.fixture(scope="module")
def subnets(micro, make_supernet):
    """`subnets(bits, **space or settings)`: the largest subnet of a small supernet."""
    from tests.subnet_test import cut

    made = {}

    def make(bits, relu=False, channels=1):
        key = (bits, relu, channels)
        if key not in made:
            space = micro
            if relu:
                stages = tuple(dataclasses.replace(s, activation="relu") for s in micro.stages)
                space = dataclasses.replace(micro, stages=stages, stem_activation="relu", head_activation="relu6")
            made[key] = cut(make_supernet(space, bits=bits, channels=channels), space.largest())[0]
        return made[key]

    return make


@pytest.fixture
def same_weights():
    keras.utils.set_random_seed(1)


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
