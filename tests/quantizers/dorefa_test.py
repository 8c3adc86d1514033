"""DoReFa against an oracle in float64: as published, and rescaled."""

import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract, stepwise
from tfqnas.quantizers import DoReFa, initializing


def surrogate(quantizer, x):
    top = quantizer.qp - quantizer.qn
    if quantizer.role == "inputs":
        high = np.float64(quantizer.high.numpy())
        rounding = stepwise(x, 0, high, high / top) * high / top
        return lambda x, high: np.clip(x, 0, high) + rounding, {}
    factor = np.abs(x).max() / np.abs(np.tanh(x)).max()
    rounding = np.float64(quantizer(np.float32(x))) - np.tanh(x) * factor
    size = np.abs(x).max()
    codes = ((np.tanh(x) * factor + rounding) / size + 1) / 2 * top
    np.testing.assert_allclose(codes, np.rint((np.tanh(x) * factor / size + 1) / 2 * top), atol=1e-4)
    return lambda x: np.tanh(x) * factor + rounding, {}


CONTRACT = Contract(DoReFa, [{"bits": 4, "role": "weights"}, {"bits": 3, "role": "inputs"}], surrogate)


def ready(x, bits, role, **settings):
    quantizer = DoReFa(bits, role, **settings)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


def published(w, bits):
    """Equation 9 of the paper."""
    n = 2**bits - 1
    t = np.tanh(np.float64(w))
    return 2 * np.rint(n * (t / (2 * np.abs(t).max()) + 0.5)) / n - 1


@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
def test_weights_are_those_of_the_equation_times_their_largest(bits, rescaled, rng):
    w = np.float32(rng.normal(size=(3, 3, 4, 5)) * 0.3)
    size = np.abs(w).max() if rescaled else 1.0
    np.testing.assert_allclose(ready(w, bits, "weights", rescaled=rescaled)(w), published(w, bits) * size, atol=2e-6)


@pytest.mark.parametrize("rescaled", [True, False])
def test_the_gradient_of_weights_is_that_without_rounding_and_with_constant_maxima(rescaled, rng):
    w, upstream = np.float32(rng.normal(size=(5, 8))), rng.normal(size=(5, 8))
    v = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = ready(w, 3, "weights", rescaled=rescaled)(v)
    t = np.tanh(np.float64(w))
    factor = (np.abs(w).max() if rescaled else 1.0) / np.abs(t).max()
    np.testing.assert_allclose(
        tape.gradient(y, v, tf.constant(upstream, tf.float32)), upstream * (1 - t**2) * factor, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_integers_of_weights_are_odd_and_int8_holds_them_up_to_seven_bits(bits, rng):
    w = np.float32(rng.normal(size=(40, 5)))
    for rescaled in (True, False):
        quantizer = ready(w, bits, "weights", rescaled=rescaled)
        codes, scale, zero = quantizer.to_integers(w)
        assert zero == 0 and (codes.numpy() % 2 == 1).all() and np.abs(codes).max() == 2**bits - 1 <= 127
        assert quantizer.storage_bits == bits + 1
        np.testing.assert_allclose(codes.numpy() * np.float64(scale), quantizer(w), rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="odd half steps of 8 bits do not fit into int8, expected at most 7 bits"):
        ready(w, 8, "weights").to_integers(w)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs_are_clipped_to_the_calibrated_range_or_as_published_to_one(bits, rng):
    x, upstream = np.float32(rng.normal(size=(50, 40)) * 3), rng.normal(size=(50, 40))
    for quantizer, high in (
        (ready(x, bits, "inputs", method="min_max"), np.float64(x.max())),
        (ready(x, bits, "inputs", rescaled=False), 1.0),
    ):
        v, n = tf.constant(x), 2**bits - 1
        with tf.GradientTape() as tape:
            tape.watch(v)
            y = quantizer(v, batched=True)
        expected = np.rint(np.clip(np.float64(x) / high, 0, 1) * n) / n * high
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        dx = tape.gradient(y, v, tf.constant(upstream, tf.float32))
        np.testing.assert_allclose(dx, upstream * ((x >= 0) & (x <= np.float32(high))), rtol=1e-6)
        assert quantizer.trainable_variables == [] and quantizer.storage_bits == bits
        codes, scale, _ = quantizer.to_integers(x)
        np.testing.assert_allclose(codes.numpy() * np.float64(scale), expected, rtol=1e-5, atol=1e-5)


def test_zeros_stay_finite():
    zeros = np.zeros((4, 3), np.float32)
    assert np.abs(ready(zeros, 4, "weights")(zeros)).max() < 1e-6
    assert ready(zeros, 4, "inputs")(zeros).numpy().max() == 0


def test_a_narrow_range_is_refused():
    with pytest.raises(ValueError, match="narrow_range: expected False"):
        DoReFa(4, "weights", narrow_range=True)
