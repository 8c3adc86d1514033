"""Keras models made at random: branches, pools, sums, products, joins, activations, tensors that several read."""

import keras
import numpy as np

SHAPE = (8, 8, 3)
_ACTIVATIONS = ("relu", "relu6", "hard_silu", "hard_sigmoid", "sigmoid", "tanh", "silu", "elu", "gelu", "leaky_relu")


def model(seed):
    """A small model with some ten computations; the same for the same seed."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(int(seed))
    inputs = keras.Input(SHAPE)
    tensors = [keras.layers.Conv2D(4, 3, padding="same")(inputs)]
    for _ in range(int(rng.integers(5, 10))):
        step = _STEPS[rng.integers(len(_STEPS))]
        tensors.append(step(rng, tensors))
    # All that nothing reads yet is joined, so that nothing is left out.
    read = {id(t) for layer in keras.Model(inputs, tensors).layers for t in _inputs(layer)}
    ends = [_vector(t) for t in tensors if id(t) not in read] or [_vector(tensors[-1])]
    x = keras.layers.Concatenate()(ends) if len(ends) > 1 else ends[0]
    x = keras.layers.Dense(5, activation=rng.choice(["linear", "softmax"]))(x)
    return keras.Model(inputs, x)


def _inputs(layer):
    found = [] if isinstance(layer, keras.layers.InputLayer) else layer.input
    return found if isinstance(found, list | tuple) else [found]


def _vector(x):
    return keras.layers.GlobalAveragePooling2D()(x)


def _any(rng, tensors):
    """Mostly the latest tensor, else one that may have readers already."""
    return tensors[-1] if rng.random() < 0.5 else tensors[rng.integers(len(tensors))]


def _convolution(rng, tensors):
    x, size = _any(rng, tensors), int(rng.integers(1, 4))
    if rng.random() < 0.3:
        x = keras.layers.DepthwiseConv2D(size, padding="same")(x)
    else:
        x = keras.layers.Conv2D(4, size, padding="same", use_bias=bool(rng.random() < 0.5))(x)
    return _norm(rng, x) if rng.random() < 0.5 else x


def _norm(rng, x):
    norm = keras.layers.BatchNormalization()
    y, n = norm(x), x.shape[-1]
    norm.set_weights([rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n), rng.normal(0, 0.3, n), rng.uniform(0.1, 1, n)])
    return y


def _activation(rng, tensors):
    name = rng.choice([*_ACTIVATIONS, "relu", "relu", "relu_1"])
    x = _any(rng, tensors)
    return keras.layers.ReLU(1.0)(x) if name == "relu_1" else keras.layers.Activation(str(name))(x)


def _pair(rng, tensors):
    one = _any(rng, tensors)
    alike = [t for t in tensors if t.shape == one.shape]
    return one, alike[rng.integers(len(alike))]


def _sum(rng, tensors):
    kind = rng.choice(["Add", "Add", "Add", "Subtract", "Multiply", "Maximum", "Average"])
    x = getattr(keras.layers, str(kind))()(list(_pair(rng, tensors)))
    return keras.layers.ReLU()(x) if rng.random() < 0.4 else x


def _join(rng, tensors):
    x = keras.layers.Concatenate()(list(_pair(rng, tensors)))
    return keras.layers.Conv2D(4, 1)(x) if rng.random() < 0.8 else x


def _pool(rng, tensors):
    kind = rng.choice(["MaxPooling2D", "AveragePooling2D"])
    return getattr(keras.layers, str(kind))(3, 1, padding="same")(_any(rng, tensors))


def _gate(rng, tensors):
    x = _any(rng, tensors)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Conv2D(x.shape[-1], 1, activation=str(rng.choice(["sigmoid", "hard_sigmoid"])))(gate)
    return keras.layers.Multiply()([x, gate])


def _twice(rng, tensors):
    x = _any(rng, tensors)
    layer = keras.layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")
    return layer(layer(x))


_STEPS = (_convolution, _convolution, _activation, _sum, _sum, _join, _pool, _gate, _twice)
