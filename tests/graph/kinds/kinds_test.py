"""Layers and operations of Keras as sites: what each becomes, what is absorbed, what needs no operation."""

import keras
import numpy as np
import pytest

from tfqnas.graph.normal import normal_form
from tfqnas.graph.reading import sites_of

layers, ops = keras.layers, keras.ops
SHAPE = (8, 8, 4)


def conv(x, filters=4, size=3, **settings):
    return layers.Conv2D(filters, size, padding="same", **settings)(x)


def kinds(build, shape=SHAPE):
    """The kinds of a model's sites behind its input."""
    inputs = keras.Input(shape)
    return [site.kind for site in sites_of(normal_form(keras.Model(inputs, build(inputs)))) if site.kind != "input"]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        # Absorbed: BatchNorm, factors and offsets, clipping activations, also behind a reshape.
        (lambda x: layers.ReLU()(layers.BatchNormalization()(conv(x))), ["conv_2d"]),
        (lambda x: (conv(x) * 0.5 + 1.0) / np.arange(1, 5, dtype=np.float32), ["conv_2d"]),
        (lambda x: layers.ReLU(3.0)(conv(x)), ["conv_2d"]),
        (lambda x: layers.ReLU()(layers.Add()([conv(x), x])), ["conv_2d", "add"]),
        (
            lambda x: layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(3, 3)(x[:, 0]))),
            ["slice", "conv_2d", "reshape"],
        ),
        # Not absorbed: what others read before it, and what comes behind an activation.
        (lambda x: layers.BatchNormalization()(conv(x, activation="relu")), ["conv_2d", "depthwise_conv_2d"]),
        (lambda x: layers.ReLU()(layers.MaxPooling2D()(x)), ["max_pool_2d", "requantize"]),
        (lambda x: layers.MaxPooling2D()(x) * 0.5, ["max_pool_2d", "constant", "mul"]),
        (lambda x: layers.MaxPooling2D()(x) + 0.5, ["max_pool_2d", "constant", "add"]),
        # Tables of their own.
        (lambda x: conv(x, activation="tanh"), ["conv_2d", "tanh"]),
        (lambda x: conv(x, activation="silu"), ["conv_2d", "logistic", "mul"]),
        (lambda x: abs(conv(x)), ["conv_2d", "constant", "mul", "maximum"]),
        # Several operations of one layer.
        (lambda x: layers.SeparableConv2D(5, 3)(x), ["depthwise_conv_2d", "conv_2d"]),
        (lambda x: layers.Average()([conv(x), x, x]), ["conv_2d", "add", "add", "constant", "mul"]),
        (lambda x: layers.GlobalAveragePooling2D()(x), ["mean", "reshape"]),
        (lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x), ["max_pool_2d"]),
        # Moves, and what moves nothing.
        (lambda x: layers.Reshape((8, 8, 4))(layers.Reshape((16, 4, 4))(conv(x))), ["conv_2d"]),
        (lambda x: layers.Cropping2D(0)(layers.RandomFlip()(layers.Dropout(0.1)(conv(x)))), ["conv_2d"]),
        (lambda x: ops.transpose(x, (0, 3, 1, 2)), ["transpose"]),
        (lambda x: ops.moveaxis(x, 3, 1), ["transpose"]),
        (lambda x: ops.swapaxes(layers.GlobalAveragePooling2D(keepdims=True)(x), 1, 3), ["mean", "reshape"]),
        (lambda x: ops.stack(ops.unstack(x, axis=3), axis=-1), ["slice"] * 4 + ["concatenation"]),
        (lambda x: x[:, 1:, ..., ::2], ["strided_slice"]),
        (lambda x: x[..., ::-1], ["slice"] * 4 + ["concatenation"]),
        (lambda x: x[:, 2], ["slice", "reshape"]),
        (lambda x: layers.RepeatVector(3)(layers.Flatten()(x)), ["reshape", "concatenation"]),
        # At the front: the scale and zero point of the input.
        (lambda x: layers.Rescaling(1 / 127.5, -1)(x), ["rescale"]),
        (lambda x: conv(x / 127.5 - 1.0), ["rescale", "conv_2d"]),
        (lambda x: layers.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4])(x), ["depthwise_conv_2d"]),
        # Matrix products.
        (lambda x: layers.Dense(3)(x), ["conv_2d"]),
        (lambda x: layers.Dense(3)(layers.Reshape((16, 16))(x)), ["reshape", "fully_connected"]),
        (lambda x: ops.matmul(x, ops.swapaxes(x, 2, 3)), ["transpose", "batch_matmul"]),
    ],
)
def test_what_becomes_of_a_layer(build, expected):
    assert kinds(build) == expected


def test_layers_that_several_calls_share_are_sites_of_their_own_with_names_of_their_own():
    layer = layers.Conv2D(4, 3, padding="same", name="conv")
    inputs = keras.Input(SHAPE)
    other = layers.Conv2D(4, 3, padding="same", name="conv_1")
    sites = sites_of(keras.Model(inputs, other(layer(layer(inputs)))))
    assert [site.name for site in sites[1:]] == ["conv", "conv_2", "conv_1"]
    assert sites[1].layer is sites[2].layer is layer
