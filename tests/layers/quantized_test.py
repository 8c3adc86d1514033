"""Quantized layers: without quantizers the plain Keras layer, with them the plain layer of quantized tensors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, initializing
from tfqnas.quantizers.lsq import first_step

KINDS = {
    "conv": (keras.layers.Conv2D, QuantConv2D, {"filters": 6, "kernel_size": 3}, (2, 9, 8, 4)),
    "depthwise": (keras.layers.DepthwiseConv2D, QuantDepthwiseConv2D, {"kernel_size": 3}, (2, 9, 8, 4)),
    "dense": (keras.layers.Dense, QuantDense, {"units": 6}, (5, 4)),
}
CONVOLUTIONS = [
    {},
    {"use_bias": False},
    {"activation": "hard_silu"},
    {"padding": "same"},
    {"strides": 2, "padding": "same"},
    {"strides": 2, "padding": "valid", "activation": "relu", "use_bias": False},
    {"kernel_size": 5, "padding": "same"},
    {"dilation_rate": 2, "padding": "same"},
]
VARIANTS = [
    ("conv", {}),
    *(("conv", v) for v in CONVOLUTIONS[1:]),
    ("conv", {"groups": 2}),
    ("conv", {"kernel_size": (1, 3)}),
    ("depthwise", {}),
    *(("depthwise", v) for v in CONVOLUTIONS[1:]),
    ("depthwise", {"depth_multiplier": 2}),
    ("depthwise", {"data_format": "channels_first"}),
    ("dense", {}),
    ("dense", {"use_bias": False}),
    ("dense", {"activation": "relu"}),
]
every_variant = pytest.mark.parametrize(
    ("kind", "variant"),
    [pytest.param(k, v, id=f"{k}-{'-'.join(f'{a}={b}' for a, b in v.items())}") for k, v in VARIANTS],
)


def built(cls, settings, shape, rng):
    layer = cls(**settings, name="layer")
    layer.build((None, *shape[1:]))
    if rng is not None:
        layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.get_weights()])
    return layer


@every_variant
def test_without_quantizers_it_is_exactly_the_plain_layer(kind, variant, rng):
    plain_class, quantized_class, settings, shape = KINDS[kind]
    settings = {**settings, **variant}
    plain, ours = built(plain_class, settings, shape, rng), built(quantized_class, settings, shape, None)
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, w.shape) for w in plain.weights]
    assert ours.get_config() == {**plain.get_config(), "weight_quantizer": None, "input_quantizer": None}
    assert ours.quantizers == []
    ours.set_weights(plain.get_weights())
    x = tf.constant(rng.normal(size=shape), tf.float32)
    np.testing.assert_array_equal(ours(x), plain(x))
    assert ours.compute_output_shape(shape) == plain.compute_output_shape(shape)


@every_variant
@pytest.mark.parametrize("quantized", [("weights",), ("inputs",), ("weights", "inputs")])
def test_with_quantizers_it_is_the_plain_layer_of_quantized_tensors(kind, variant, quantized, rng):
    """Output and gradients; straight through the quantizers where the values lie inside their range."""
    plain_class, quantized_class, settings, shape = KINDS[kind]
    settings = {**settings, **variant}
    prototypes = {}
    if "weights" in quantized:
        prototypes["weight_quantizer"] = LSQ(bits=3)
    if "inputs" in quantized:
        prototypes["input_quantizer"] = LSQ(bits=4, signed=False)
    plain = built(plain_class, settings, shape, rng)
    ours = built(quantized_class, {**settings, **prototypes}, shape, None)
    for variable, value in zip(
        [ours.kernel, *([ours.bias] if ours.use_bias else [])], plain.get_weights(), strict=True
    ):
        variable.assign(value)
    x = tf.constant(rng.normal(size=shape), tf.float32)
    with initializing():
        ours(x)

    def codes(quantizer, values):
        """Values as quantized in float64, and 1 where the gradient passes."""
        if quantizer is None:
            return values, np.ones(values.shape)
        u = np.float64(values) / np.float64(quantizer.step.numpy())
        q = np.floor(np.clip(u, quantizer.qn, quantizer.qp) + 0.5) * quantizer.step.numpy()
        return np.float32(q), (u >= quantizer.qn) & (u <= quantizer.qp)

    xq, x_passes = codes(ours.input_quantizer, x.numpy())
    wq, w_passes = codes(ours.weight_quantizer, plain.kernel.numpy())
    plain.kernel.assign(wq)
    xq = tf.constant(xq)
    with tf.GradientTape() as tape:
        tape.watch(xq)
        expected = plain(xq)
        loss = tf.reduce_sum(expected**2)
    expected_dx, expected_dw = tape.gradient(loss, [xq, plain.kernel.value])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ours(x)
        loss = tf.reduce_sum(y**2)
    dx, dw = tape.gradient(loss, [x, ours.kernel.value])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for computed, theirs in ((dx, expected_dx * x_passes), (dw, expected_dw * w_passes)):
        np.testing.assert_allclose(computed, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_one_prototype_makes_a_quantizer_for_each_layer_and_role():
    prototype = LSQ(bits=4)
    layers = [QuantDense(3, weight_quantizer=prototype, input_quantizer=prototype) for _ in range(2)]
    for layer in layers:
        layer.build((None, 4))
    quantizers = [q for layer in layers for q in layer.quantizers]
    assert len({id(q) for q in (*quantizers, prototype)}) == 5 and not prototype.built
    assert [w.path for w in layers[0].weights] == [
        f"{layers[0].name}/{name}" for name in ("kernel", "bias", "weight_quantizer/step", "input_quantizer/step")
    ]


def test_something_that_is_no_quantizer_is_refused():
    with pytest.raises(TypeError, match="expected a tfqnas Quantizer or None, received int"):
        QuantDense(3, weight_quantizer=4)


def test_initialize_sets_an_ordinary_model_layer_by_layer(rng):
    """Each input quantizer is set from what the quantized layers before it give."""
    from tfqnas.supernet import initialize

    quantizers = {"weight_quantizer": LSQ(bits=4), "input_quantizer": LSQ(bits=4, signed=False)}
    inputs = keras.Input((6,))
    first, second = QuantDense(5, activation="relu", **quantizers), QuantDense(3, **quantizers)
    model = keras.Model(inputs, second(first(inputs)))
    x = rng.uniform(size=(64, 6)).astype(np.float32)
    initialize(model, x)

    assert first.weight_quantizer.step.numpy() == pytest.approx(first_step(first.kernel, -8, 7), rel=1e-5)
    assert first.input_quantizer.step.numpy() == pytest.approx(first_step(x, 0, 15), rel=1e-5)
    assert second.input_quantizer.step.numpy() == pytest.approx(first_step(first(x), 0, 15), rel=1e-5)
    expected = model(x).numpy()
    initialize(model, x)  # again: nothing changes
    np.testing.assert_array_equal(model(x), expected)
