"""BatchQuant against an oracle in float64, and affine min-max at initialisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract
from tfqnas.layers import QuantDense
from tfqnas.quantizers import BatchQuant, initializing, integer_range
from tfqnas.quantizers.batch_quant import affine, batch_range


def surrogate(quantizer, x):
    """BatchQuant with the range that it keeps; the rounding of the zero point adds a constant too."""
    qn, qp = integer_range(quantizer.bits, quantizer.signed)
    low, high = (np.float64(v.numpy()) for v in (quantizer.low, quantizer.high))

    def codes(x, theta, offset, snapping):
        step, zero = (high - low) / (qp - qn), np.clip(qn - np.rint(low / ((high - low) / (qp - qn))), qn, qp)
        zero = zero + offset + snapping
        step = step / np.log2(1 + 2**theta)
        return np.clip(x / step + zero, qn, qp), step, zero

    snapping = np.rint(codes(x, 0.0, quantizer.offset.numpy(), 0)[2]) - codes(x, 0.0, quantizer.offset.numpy(), 0)[2]
    u, _, _ = codes(x, quantizer.theta.numpy(), quantizer.offset.numpy(), snapping)
    rounding = np.rint(u) - u

    def function(x, theta, offset, low, high):
        u, step, zero = codes(x, theta, offset, snapping)
        return (u + rounding - zero) * step

    return function, {"theta": 1.0, "offset": 1.0}


CONTRACT = Contract(BatchQuant, [{"bits": 4}, {"bits": 2, "snapped": False}, {"bits": 3, "signed": True}], surrogate)

CASES = [(bits, signed) for bits in (2, 3, 4, 8) for signed in (False, True)]


def oracle(x, bits, signed, theta=0.0, offset=0.0):
    """`(x_hat, codes, step, zero point)` of a batch, as the definition has it."""
    x = np.float64(x)
    qn, qp = integer_range(bits, signed)
    axes = tuple(range(x.ndim - 1))
    low, high = min(0.0, x.min(axis=axes).mean()), max(0.0, x.max(axis=axes).mean())
    step = (high - low) / (qp - qn)
    zero = np.clip(qn - np.rint(low / step), qn, qp)
    gain = np.log2(1 + 2**theta)
    codes = np.rint(np.clip(x * gain / step + zero + offset, qn, qp))
    return (codes - zero - offset) * step / gain, codes, step / gain, zero + offset


def images(rng, shift=0.3):
    """Off ties: with a random shift none of these values is one."""
    return np.float32(rng.normal(size=(8, 5, 5, 6)) + shift)


def in_training(x, bits, signed, theta=0.0, offset=0.0):
    quantizer = BatchQuant(bits, signed)
    quantizer.build()
    with initializing():
        quantizer(x)
    quantizer.theta.assign(theta)
    quantizer.offset.assign(offset)
    return quantizer


@pytest.mark.parametrize(("bits", "signed"), CASES)
@pytest.mark.parametrize("shift", [-0.8, 0.3, 9.0])
def test_at_initialisation_it_is_affine_min_max(bits, signed, shift, rng):
    x = images(rng, shift)
    quantizer = in_training(x, bits, signed)
    expected, *_ = oracle(x, bits, signed)
    np.testing.assert_allclose(quantizer(x, training=True), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("bits", "signed"), CASES)
@pytest.mark.parametrize(("theta", "offset"), [(0.7, 0.37), (-1.2, -0.21)])
def test_gain_and_offset_are_those_of_the_definition(bits, signed, theta, offset, rng):
    x = images(rng)
    expected, *_ = oracle(x, bits, signed, theta, offset)
    computed = in_training(x, bits, signed, theta, offset)(x, training=True)
    np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-5)


def test_the_sign_only_names_the_codes(rng):
    x = images(rng)
    both = [in_training(x, 3, signed, 0.4, 0.2)(x, training=True) for signed in (False, True)]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gradients_are_the_slopes_of_the_straight_through_surrogate(bits, rng):
    x, upstream = images(rng), rng.normal(size=(8, 5, 5, 6))
    step, zero, top = 0.21, 1.4, 2**bits - 1
    with tf.GradientTape() as tape:
        values = [tf.constant(v, tf.float32) for v in (x, step, zero)]
        tape.watch(values)
        y = affine(*values, bits, top)
    dx, dstep, dzero = tape.gradient(y, values, tf.constant(upstream, tf.float32))
    u = np.float64(x) / step + zero
    inside = (u >= 0) & (u <= top)
    assert 0 < inside.mean() < 1
    codes = np.rint(np.clip(u, 0, top))
    np.testing.assert_allclose(dx, upstream * inside, rtol=1e-5)
    assert float(dstep) == pytest.approx(np.sum(upstream * np.where(inside, codes - u, codes - zero)), rel=1e-3)
    assert float(dzero) == pytest.approx(-step * np.sum(upstream * ~inside), rel=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_bit_width_that_is_a_tensor_changes_nothing(bits, rng):
    x = tf.constant(images(rng))

    @tf.function(input_signature=(tf.TensorSpec((), tf.int32),), autograph=False)
    def traced(bits):
        with tf.GradientTape() as tape:
            values = [x, tf.constant(0.13), tf.constant(0.6)]
            tape.watch(values)
            y = affine(*values, bits, tf.cast(2**bits, tf.float32) - 1)
        return y, *tape.gradient(y, values)

    with tf.GradientTape() as tape:
        values = [x, tf.constant(0.13), tf.constant(0.6)]
        tape.watch(values)
        y = affine(*values, bits, 2**bits - 1)
    for one, other in zip(traced(bits), (y, *tape.gradient(y, values)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_no_gradient_flows_through_the_range():
    x = tf.random.stateless_normal((4, 3, 3, 2), seed=(0, 0))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = batch_range(x)
    assert tape.gradient(y, x) is None


def test_the_range_always_holds_zero():
    assert batch_range(tf.ones((2, 3))).numpy().tolist() == [[0.0], [1.0]]
    assert batch_range(-tf.ones((2, 3))).numpy().tolist() == [[-1.0], [0.0]]


def test_a_batch_of_zeros_stays_zero_and_finite():
    quantizer = in_training(np.zeros((2, 3), np.float32), 4, False)
    np.testing.assert_array_equal(quantizer(np.zeros((2, 3), np.float32), training=True), 0)


@pytest.mark.parametrize("offset", [0.0, 0.4, -0.3, 7.6])
def test_evaluation_has_a_whole_zero_point_so_zero_is_a_code(offset, rng):
    x = images(rng)
    quantizer = in_training(x, 3, False, 0.3, offset)
    codes, scale, zero = quantizer.to_integers(x)
    assert isinstance(zero, int) and 0 <= zero <= 7
    np.testing.assert_allclose((codes.numpy() - zero) * scale.numpy(), quantizer(x), rtol=1e-5, atol=1e-6)
    assert quantizer(np.zeros((1, 6), np.float32)).numpy().max() == 0
    quantizer.snapped = False
    assert np.abs(quantizer(x) - oracle(x, 3, False, 0.3, offset)[0]).max() < 1e-4


def test_training_moves_the_averages_and_evaluation_does_not(rng):
    x, y = images(rng), images(rng, shift=2.0)
    quantizer = in_training(x, 4, False)
    before = [quantizer.low.numpy(), quantizer.high.numpy()]
    quantizer(y)
    assert [quantizer.low.numpy(), quantizer.high.numpy()] == before
    quantizer(y, training=True)
    expected = 0.9 * np.array(before) + 0.1 * batch_range(y).numpy()[:, 0]
    np.testing.assert_allclose([quantizer.low.numpy(), quantizer.high.numpy()], expected, rtol=1e-6)


def test_in_a_model_fit_trains_gain_and_offset_and_the_range_follows(rng):
    x = np.float32(rng.normal(size=(64, 6)))
    model = keras.Sequential([keras.Input((6,)), QuantDense(3, input_quantizer=BatchQuant(2))])
    with initializing():
        model(x)
    quantizer = model.layers[0].input_quantizer
    before = [v.numpy().copy() for v in quantizer.variables]
    model.compile("sgd", "mse")
    model.fit(x + 1, np.float32(rng.normal(size=(64, 3))), epochs=2, verbose=0)
    assert all(v.numpy() != b for v, b in zip(quantizer.variables, before, strict=True))


def test_a_narrow_range_is_refused():
    with pytest.raises(ValueError, match="narrow_range: expected False"):
        BatchQuant(4, signed=True, narrow_range=True)


def test_a_range_is_not_set_from_values_that_are_not_finite():
    quantizer = BatchQuant(4)
    quantizer.build()
    with pytest.raises(ValueError, match="not finite"), initializing():
        quantizer(np.float32([[np.nan, 1.0]]))


def test_ranges_of_batches_are_averaged():
    np.testing.assert_array_equal(BatchQuant.pooled(np.float32([[[-1], [3]], [[-3], [5]]])), [[-2], [4]])
