"""APoT: levels against their definition, rounding against a search through all of them."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract
from tfqnas.quantizers import APoT, initializing
from tfqnas.quantizers.apot import levels


def surrogate(quantizer, x):
    alpha = np.float64(quantizer.alpha.numpy())
    low = -1 if quantizer.signed else 0
    projection = np.float64(quantizer(np.float32(x))) / alpha - np.clip(x / alpha, low, 1)
    return lambda x, alpha: (np.clip(x / alpha, low, 1) + projection) * alpha, {"alpha": 1.0}


CONTRACT = Contract(APoT, [{"bits": 4, "role": "weights"}, {"bits": 4, "role": "inputs", "initial": 1.0}], surrogate)


def ready(x, bits, role, **settings):
    quantizer = APoT(bits, role, **settings)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


def test_levels_of_4_bits_are_the_sums_of_two_lists_of_powers_of_two():
    first, second = (0, 2**-1, 2**-3, 2**-5), (0, 2**-2, 2**-4, 2**-6)
    sums = sorted(a + b for a, b in itertools.product(first, second))
    np.testing.assert_allclose(levels(4, False), np.array(sums) / sums[-1], rtol=1e-15)
    # Of weights one bit is the sign: of 5 bits 4 are for the size.
    np.testing.assert_array_equal(levels(5, True), np.concatenate([-levels(4, False)[:0:-1], levels(4, False)]))


def test_levels_of_2_and_3_bits():
    np.testing.assert_allclose(levels(2, False), [0, 1 / 4, 1 / 2, 1])
    np.testing.assert_allclose(levels(3, False) * 5 / 8, [0, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8])


@pytest.mark.parametrize(("bits", "signed"), [(b, False) for b in range(2, 7)] + [(b, True) for b in range(3, 8)])
def test_there_are_as_many_levels_as_codes_from_zero_to_one(bits, signed):
    found = levels(bits, signed)
    assert len(found) == 2**bits - int(signed) and found[-1] == 1 and 0 in found
    assert (np.diff(found) > 0).all() and found[0] == (-1 if signed else 0)


@pytest.mark.parametrize("role", ["inputs", "weights"])
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_each_value_goes_to_its_nearest_level_and_gradients_are_those_of_the_definition(bits, role, rng):
    x, upstream = np.float32(rng.normal(size=(30, 40))), rng.normal(size=(30, 40))
    quantizer = ready(x, bits, role)
    quantizer.alpha.assign(1.3)
    v = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v)
    dx, dalpha = tape.gradient(y, [v, quantizer.alpha.value], tf.constant(upstream, tf.float32))
    alpha = np.float64(np.float32(1.3))
    ends = levels(bits, role == "weights") * alpha
    distance = np.abs(np.float64(x)[..., None] - ends)
    nearest = ends[distance.argmin(-1)]
    off = np.diff(np.sort(distance, -1)[..., :2])[..., 0] > 1e-5  # from the middle of two
    assert off.mean() > 0.99
    np.testing.assert_allclose(y.numpy()[off], nearest[off], rtol=1e-5, atol=1e-6)
    inside = (x >= ends[0]) & (x <= alpha)
    np.testing.assert_allclose(dx, upstream * inside, rtol=1e-6)
    nearest = np.where(off, nearest, y)
    slope = np.where(inside, (nearest - x) / alpha, nearest / alpha)
    assert float(dalpha) == pytest.approx(np.sum(upstream * slope), rel=1e-4, abs=1e-4)


def test_the_end_starts_at_three_deviations_of_weights_and_at_the_largest_input(rng):
    x = np.float32(rng.normal(size=1000))
    assert ready(x, 4, "weights").alpha.numpy() == pytest.approx(3 * np.float64(x).std(), rel=1e-5)
    assert ready(x, 4, "inputs").alpha.numpy() == x.max()
    assert ready(x * 100, 4, "inputs").alpha.numpy() == 6
    assert ready(x * 100, 4, "inputs", initial=8.0).alpha.numpy() == 8


def test_other_bit_widths_and_integers_are_refused(rng):
    with pytest.raises(ValueError, match="APoT of weights: bits: expected a whole number from 3 to 7, received 8"):
        APoT(8, "weights")
    with pytest.raises(ValueError, match="APoT of inputs: bits: expected a whole number from 2 to 6, received 8"):
        APoT(4, "inputs").with_bits(8)
    with pytest.raises(TypeError, match="sums of powers of two, no integers times one step"):
        ready(np.float32(rng.normal(size=9)), 4, "weights").to_integers(np.ones(3, np.float32))
