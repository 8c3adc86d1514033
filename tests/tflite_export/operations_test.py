"""Operations of Keras models beside those of supernets: exact, and close to the float model."""

import keras
import numpy as np
import pytest

from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact, functional, pooled
from tfqnas import layers

pytestmark = pytest.mark.usefixtures("same_weights")


def conv(x, filters=6, size=3, activation=None, **settings):
    return keras.layers.Conv2D(filters, size, padding="same", activation=activation, **settings)(x)


def relu_of_a_branch(x):
    c = conv(x, 4)
    return pooled(keras.layers.Add()([c, keras.layers.ReLU()(keras.layers.Dropout(0.1)(c))]))


def h_swish_of_a_branch(x):
    c = conv(x, 4)
    return pooled(keras.layers.Add()([c, keras.layers.Activation("hard_silu")(c)]))


def relu_of_a_sum(x):
    c = conv(x, 4)
    return pooled(keras.layers.ReLU()(keras.layers.Add()([c, conv(c, 4)])))


def gate_in_a_sum(x):
    return pooled(keras.layers.Add()([conv(x, 4, 1, "hard_sigmoid"), conv(x, 4)]))


def image_in_a_sum(x):
    return pooled(keras.layers.Add()([x, conv(x, 4)]))


def norms_on_their_own(x):
    """On pixels, behind a pool, behind an activation."""
    for size in (1, 2):
        norm = keras.layers.BatchNormalization()
        x = conv(norm(keras.layers.AveragePooling2D(size)(x) if size > 1 else x), 5, activation="relu")
        channels = norm.gamma.shape[0]
        norm.set_weights([np.linspace(-1, 2, channels), *np.random.default_rng(0).random((3, channels))])
    return pooled(keras.layers.BatchNormalization()(x))


def pools(x):
    x = conv(x, 6, activation="relu")
    x = keras.layers.MaxPooling2D(2, padding="same")(x)
    x = conv(x, 6)
    return keras.layers.Flatten()(keras.layers.AveragePooling2D(2, 1)(x))


def padded(x):
    x = keras.layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    return pooled(keras.layers.Conv2D(5, 3, strides=2)(x))


def gate_of_dense_layers(x):
    x = conv(x, 8, activation="relu")
    gate = keras.layers.Dense(3, activation="relu")(pooled(x))
    gate = keras.layers.Reshape((1, 1, 8))(keras.layers.Dense(8, activation="hard_sigmoid")(gate))
    return pooled(keras.layers.Multiply()([x, gate]))


def dense_layers_of_pixels(x):
    gate = keras.layers.Dense(4, activation="hard_sigmoid")(pooled(x, keepdims=True))
    return pooled(keras.layers.Multiply()([keras.layers.Dense(4, activation="relu")(x), gate]))


def gate_without_layers(x):
    return pooled(keras.layers.Multiply()([conv(x, 4), pooled(conv(x, 4, activation="relu"))]))


def super_resolution(x):
    y = conv(conv(x, 6, activation="relu"), 16)
    large = keras.layers.Resizing(12, 12, interpolation="nearest")(x)
    return keras.layers.Add()([layers.DepthToSpace(2)(y), large])


def bilinear(x):
    return pooled(conv(keras.layers.UpSampling2D(2, interpolation="bilinear")(conv(x, 4)), 4))


def probabilities(x):
    return keras.layers.Softmax()(keras.layers.Dense(5)(pooled(conv(x, 6))))


def one_relu_for_all(x):
    relu = keras.layers.ReLU()
    return pooled(relu(conv(relu(conv(x, 4)), 4)))


@pytest.mark.parametrize(
    "build",
    [
        relu_of_a_branch,
        h_swish_of_a_branch,
        relu_of_a_sum,
        gate_in_a_sum,
        image_in_a_sum,
        norms_on_their_own,
        pools,
        padded,
        gate_of_dense_layers,
        dense_layers_of_pixels,
        gate_without_layers,
        super_resolution,
        bilinear,
        probabilities,
        one_relu_for_all,
    ],
)
def test_other_operations_are_exact_and_close_to_the_float_model(build):
    model = functional(build)
    x = images((6, 6, 4))
    _, values = assert_exact(model, x, calibration="min_max")
    expected = np.asarray(model(x))
    assert values.reshape(expected.shape).shape == expected.shape
    assert np.abs(values.reshape(expected.shape) - expected).max() < 0.06 * np.ptp(expected)
