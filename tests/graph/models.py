"""Keras models with a bit of everything, and what makes quantized models of them."""

import keras

import tfqnas
from tfqnas.quantizers import LSQ

SHAPE = (12, 12, 3)


def norm(x):
    return keras.layers.BatchNormalization()(x)


def residual_model():
    """A bit of everything: residual blocks, a gate, h-swish, pooling, padding."""
    layers = keras.layers
    x = inputs = keras.Input(SHAPE)
    x = layers.ReLU()(norm(layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)))
    y = layers.Conv2D(16, 1, activation="hard_silu", name="expand")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Activation("hard_silu")(norm(y))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(16, 1, activation="hard_sigmoid", name="excite")(gate)
    y = norm(layers.Conv2D(8, 1, name="project")(layers.Multiply()([y, gate])))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.MaxPooling2D(2)(x)
    left = layers.Conv2D(8, 3, name="left")(layers.ZeroPadding2D(1)(x))
    right = layers.AveragePooling2D(3, 1, padding="same")(layers.Conv2D(8, 1, name="right")(x))
    x = layers.Add()([left, right])
    x = layers.Flatten()(layers.Resizing(4, 4, interpolation="nearest")(x))
    x = layers.Dropout(0.1)(layers.Dense(12, "relu", name="hidden")(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="classifier")(x))


def of_operations():
    """A residual block with a gate, written with operations, in every way that `as_layers` knows."""
    ops, layers = keras.ops, keras.layers
    inputs = keras.Input(SHAPE)
    x = keras.activations.relu(layers.Conv2D(6, 3, padding="same", name="stem")(inputs))
    y = ops.hard_silu(layers.Conv2D(6, 1, name="expand")(x))
    y = ops.relu6(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y))
    gate = layers.Conv2D(6, 1, name="excite")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = y * (layers.ReLU(6.0)(gate + 3.0) * (1 / 6))
    x = x + layers.Conv2D(6, 1, name="project")(y)
    gate = layers.Conv2D(6, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = ops.multiply(ops.relu6(3.0 + gate) / 6.0, x)
    gate = ops.hard_sigmoid(layers.Conv2D(6, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    x = keras.activations.relu(layers.Conv2D(6, 1)(x * gate), max_value=6.0)
    x = layers.Dense(5, name="classifier")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, ops.softmax(x))


def quantized(model=None, bits=4, **settings):
    weights, inputs = LSQ(bits=bits), LSQ(bits=bits, signed=None)
    return tfqnas.quantize(model or residual_model(), **{"weights": weights, "inputs": inputs, **settings})


def ready(model, x):
    tfqnas.initialize(model, x, missing_only=True)
    return model
