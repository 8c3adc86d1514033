"""PACT against an oracle in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract, stepwise
from tfqnas.quantizers import LSQ, PACT, ByBits, initializing


def surrogate(quantizer, x):
    """Rounding adds a constant to the values; only the end moves with alpha."""
    alpha = np.float64(quantizer.alpha.numpy())
    rounding = stepwise(x, 0, alpha, alpha / quantizer.qp) * alpha / quantizer.qp
    return lambda x, alpha: np.clip(x, 0, alpha) + rounding, {"alpha": 1.0}


CONTRACT = Contract(PACT, [{"bits": 4, "initial": 1.5}, {"bits": 2, "initial": 0.7}], surrogate)


def ready(x, bits=4, **settings):
    quantizer = PACT(bits, **settings)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_output_and_gradients_are_those_of_the_definition(bits, alpha, rng):
    x, upstream = np.float32(rng.normal(size=(6, 5, 4))), rng.normal(size=(6, 5, 4))
    quantizer = ready(x, bits)
    quantizer.alpha.assign(alpha)
    v = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v, batched=True)
    dx, dalpha = tape.gradient(y, [v, quantizer.alpha.value], tf.constant(upstream, tf.float32))
    alpha, top = np.float64(np.float32(alpha)), 2**bits - 1
    clipped = 0.5 * (np.abs(np.float64(x)) - np.abs(x - alpha) + alpha)  # equation 1
    np.testing.assert_allclose(y, np.rint(clipped * top / alpha) * alpha / top, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, upstream * ((x >= 0) & (x <= alpha)), rtol=1e-6)
    assert float(dalpha) == pytest.approx(np.sum(upstream * (x > alpha)), rel=1e-4, abs=1e-5)


def test_its_range_starts_at_six_or_at_the_largest_value():
    assert ready(np.float32([-1, 2.5])).alpha.numpy() == 2.5
    assert ready(np.float32([-1, 250])).alpha.numpy() == 6
    assert ready(np.float32([-1, 250]), initial=10.0).alpha.numpy() == 10
    assert ready(np.float32([-1, -2])).alpha.numpy() == 6


def test_its_integers_are_unsigned_codes_of_one_step(rng):
    x = np.float32(rng.normal(size=500))
    quantizer = ready(x, 3)
    codes, scale, zero = quantizer.to_integers(x)
    alpha = np.float64(quantizer.alpha.numpy())
    assert zero == 0 and float(scale) == pytest.approx(alpha / 7)
    np.testing.assert_array_equal(codes, np.rint(np.clip(np.float64(x), 0, alpha) * 7 / alpha))
    assert quantizer.halved().alpha.numpy() == quantizer.alpha.numpy()


def test_it_may_be_chosen_by_bit_width(rng):
    x = np.float32(rng.normal(size=(4, 5)))
    quantizer = ByBits(PACT(4), (2, 3, 4))
    quantizer.build()
    with initializing():
        quantizer(x)
    for bits in (2, 3, 4):
        np.testing.assert_array_equal(quantizer(x, bits=tf.constant(bits)), ready(x, bits)(x))


def test_weights_and_signs_are_refused():
    with pytest.raises(ValueError, match="signed: expected False, received True"):
        PACT(4, signed=True)
    with pytest.raises(ValueError, match="initial: expected a positive number, received 0"):
        PACT(4, initial=0)
    assert PACT(4).roles == ("inputs",) and LSQ(4).roles == ("weights", "inputs")
    with pytest.raises(ValueError, match="not finite"):
        ready(np.float32([1, np.nan]))
    quantizer = ready(np.float32([1.0]))
    quantizer.alpha.assign(0.0)
    assert "collapsed" in quantizer.problem
