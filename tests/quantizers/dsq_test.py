"""DSQ against an oracle in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract
from tfqnas.quantizers import DSQ, initializing
from tfqnas.quantizers.dsq import soft_slope


def surrogate(quantizer, x):
    """The soft staircase, with what the second rounding adds."""
    a, (step, zero) = quantizer.sharpness, (np.float64(v) for v in quantizer._grid(tf.constant(x, tf.float32)))
    qn, qp = (quantizer.qn, quantizer.qp)

    def soft(x):
        u = np.clip(x / step + zero, qn, qp)
        k = np.log(2 / a - 1)
        return (np.floor(u) + 0.5 + np.tanh(k * (u - np.floor(u) - 0.5)) / (2 * (1 - a)) - zero) * step

    rounding = (np.rint(np.clip(x / step + zero, qn, qp)) - zero) * step - soft(x)
    return lambda x, **_: soft(x) + rounding, {}


CONTRACT = Contract(
    DSQ,
    [
        {"bits": 4, "role": "weights"},
        {"bits": 3, "role": "inputs", "sharpness": 0.2},
        {"bits": 3, "role": "weights", "narrow_range": True},
    ],
    surrogate,
)


def ready(x, bits, role, **settings):
    quantizer = DSQ(bits, role, **settings)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


def staircase(u, a):
    s, k = 1 / (1 - a), np.log(2 / a - 1)
    return np.floor(u) + 0.5 + s / 2 * np.tanh(k * (u - np.floor(u) - 0.5))


@pytest.mark.parametrize("a", [0.2, 0.4, 0.7])
def test_the_slope_is_that_of_a_staircase_that_joins_the_levels(a):
    u = np.linspace(-3, 3, 601)
    u = u[np.abs(u - np.rint(u)) > 1e-3]
    expected = (staircase(u + 1e-6, a) - staircase(u - 1e-6, a)) / 2e-6
    np.testing.assert_allclose(soft_slope(tf.constant(u, tf.float32), a), expected, rtol=1e-3)
    for end in (-1e-12, 0.0):  # no jump where a step begins
        assert staircase(1 + end, a) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_clipped_at_2_6_deviations_and_have_the_soft_gradient(bits, narrow, rng):
    w, upstream = np.float32(rng.normal(size=(30, 40)) * 0.2 + 0.01), rng.normal(size=(30, 40))
    quantizer = ready(w, bits, "weights", narrow_range=narrow)
    v = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v)
    mean, deviation = np.float64(w).mean(), np.float64(w).std()
    qn, qp = quantizer.qn, quantizer.qp
    step = max(abs(mean - 2.6 * deviation), abs(mean + 2.6 * deviation)) / ((qp - qn) / 2)
    u = np.float64(w) / step
    near_a_tie = np.abs(u - np.floor(u) - 0.5) < 1e-3
    expected = np.rint(np.clip(u, qn, qp)) * step
    assert np.all(near_a_tie | (np.abs(y - expected) < 1e-5))
    # Rounding of the soft value is rounding of the value.
    assert np.all(near_a_tie | (np.rint(staircase(np.clip(u, qn, qp), 0.4)) == np.rint(np.clip(u, qn, qp))))
    k = np.log(2 / 0.4 - 1)
    slope = k / (2 * 0.6) / np.cosh(k * (u - np.floor(u) - 0.5)) ** 2
    dw = tape.gradient(y, v, tf.constant(upstream, tf.float32)).numpy()
    at_an_end = (np.abs(u - qn) < 1e-3) | (np.abs(u - qp) < 1e-3) | (np.abs(u - np.rint(u)) < 1e-4)
    np.testing.assert_allclose(
        dw[~at_an_end], (upstream * slope * ((u >= qn) & (u <= qp)))[~at_an_end], rtol=2e-3, atol=1e-5
    )
    assert 0 < np.mean(dw == 0) < 0.3


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs_have_a_calibrated_range_with_zero_among_the_codes(bits, rng):
    x = np.float32(rng.normal(size=(50, 40)) + 0.5)
    quantizer = ready(x, bits, "inputs", method="min_max")
    low, high = (np.float64(v.numpy()) for v in quantizer.variables)
    assert (low, high) == (x.min(), x.max())
    step = (high - low) / (2**bits - 1)
    zero = np.rint(-low / step)
    u = np.float64(x) / step + zero
    expected = (np.floor(np.clip(u, 0, 2**bits - 1) + 0.5) - zero) * step
    off = np.abs(u - np.floor(u) - 0.5) > 1e-3
    np.testing.assert_allclose(quantizer(x).numpy()[off], expected[off], rtol=1e-5, atol=1e-5)
    _, scale, found = quantizer.to_integers(x)
    assert found == zero and float(scale) == pytest.approx(step) and quantizer.below_zero
    assert not ready(np.abs(x), bits, "inputs").below_zero


def test_other_sharpness_is_refused():
    with pytest.raises(ValueError, match="sharpness: expected a number between 0 and 1, received 1"):
        DSQ(4, "weights", sharpness=1)
