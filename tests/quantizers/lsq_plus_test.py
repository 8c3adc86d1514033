"""LSQ+ against an oracle in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract, stepwise
from tfqnas import initialize
from tfqnas.layers import QuantConv2D
from tfqnas.quantizers import LSQ, LSQPlus, initializing


def surrogate(quantizer, x):
    """Around the base point rounding adds a constant to the codes, and so does the snapping of the zero point."""
    qn, qp = quantizer.qn, quantizer.qp
    step = np.float64(quantizer.step.numpy())
    scale = 1 / np.sqrt(x.size * qp)
    if quantizer.role == "weights":
        rounding = stepwise(x, qn * step, qp * step, step)
        return lambda x, step: (np.clip(x / step, qn, qp) + rounding) * step, {"step": scale}
    beta = np.float64(quantizer.beta.numpy())
    snapped = -np.clip(np.rint(-beta / step), 0, qp) * step if quantizer.snapped else beta
    rounding = stepwise(x, 0, qp * step, step, -snapped)

    def function(x, step, beta):
        start = beta + (snapped - base)
        return (np.clip((x - start) / step, 0, qp) + rounding) * step + start

    base = beta
    return function, {"step": scale, "beta": scale}


CONTRACT = Contract(LSQPlus, [{"bits": 4, "role": "inputs"}, {"bits": 3, "role": "weights"}], surrogate)


def oracle(v, step, beta, qn, qp, upstream, elements):
    """`(output, gradients to v, step and beta)`, as the definition has them."""
    v, upstream = np.float64(v), np.float64(upstream)
    u = (v - beta) / step
    codes = np.rint(np.clip(u, qn, qp))
    inside = (u >= qn) & (u <= qp)
    to_step = np.where(inside, codes - u, np.where(u < qn, qn, qp))
    to_step, to_beta = np.sum(upstream * to_step), np.sum(upstream * ~inside)
    return codes * step + beta, upstream * inside, *(np.array([to_step, to_beta]) / np.sqrt(elements * qp))


def built(step, beta=None, **settings):
    quantizer = LSQPlus(**settings)
    quantizer.build()
    quantizer.step.assign(step)
    if beta is not None:
        quantizer.beta.assign(beta)
    return quantizer


def computed(quantizer, v, upstream, **options):
    v = tf.constant(v, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v, **options)
    variables = [w.value for w in quantizer.trainable_variables]
    return y, *tape.gradient(y, [v, *variables], tf.constant(upstream, tf.float32))


@pytest.mark.parametrize("beta", [-0.61, 0.0, 0.37])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_output_and_gradients_of_inputs_are_those_of_the_oracle(bits, beta, rng):
    step = np.float32(3.1 / 2**bits)
    quantizer = built(step, beta, bits=bits, role="inputs", snapped=False)
    v, upstream = np.float32(rng.normal(size=(6, 5, 4)) + beta + 1.5), rng.normal(size=(6, 5, 4))
    found = computed(quantizer, v, upstream, batched=True)
    expected = oracle(v, np.float64(step), np.float64(np.float32(beta)), 0, 2**bits - 1, upstream, 20)
    assert 0 < np.mean(expected[1] == 0) < 1
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_those_of_lsq_with_another_initialisation(bits, rng):
    w = np.float32(rng.normal(size=(3, 3, 4, 5)) * 0.1 + 0.01)
    quantizer = LSQPlus(bits, "weights")
    quantizer.build()
    with initializing():
        quantizer(w)
    mean, deviation = np.float64(w).mean(), np.float64(w).std()
    expected = max(abs(mean - 3 * deviation), abs(mean + 3 * deviation)) / 2 ** (bits - 1)
    assert quantizer.step.numpy() == pytest.approx(expected, rel=1e-6)
    lsq = LSQ(bits)
    lsq.build()
    lsq.step.assign(quantizer.step)
    upstream = rng.normal(size=w.shape)
    for ours, theirs in zip(computed(quantizer, w, upstream), computed(lsq, w, upstream), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("beta", "zero"), [(-0.61, 3), (-0.64, 3), (0.37, 0), (-9.0, 15)])
def test_its_zero_point_is_a_whole_one_within_the_codes(beta, zero, rng):
    quantizer = built(0.2, beta, bits=4, role="inputs")
    v = np.float32(rng.normal(size=1000))
    codes, scale, found = quantizer.to_integers(v)
    assert found == zero and quantizer.below_zero == (zero > 0)
    expected, *_ = oracle(v, np.float64(np.float32(0.2)), -zero * np.float64(np.float32(0.2)), 0, 15, v, 1)
    np.testing.assert_allclose(quantizer(v), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((codes.numpy() - zero) * scale.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert quantizer(np.zeros(3, np.float32)).numpy().tolist() == [0, 0, 0]
    quantizer.snapped = False
    expected, *_ = oracle(v, np.float64(np.float32(0.2)), np.float64(np.float32(beta)), 0, 15, v, 1)
    np.testing.assert_allclose(quantizer(v), expected, rtol=1e-5, atol=1e-5)


def test_training_sees_the_zero_point_of_evaluation(rng):
    images = keras.Input((4, 4, 3))
    layer = QuantConv2D(5, 3, weight_quantizer=LSQPlus(2, "weights"), input_quantizer=LSQPlus(2, "inputs"))
    model, x = keras.Model(images, layer(images)), np.float32(rng.normal(size=(2, 4, 4, 3)))
    initialize(model, x)
    layer.input_quantizer.beta.assign(-1.4 * layer.input_quantizer.step)  # off by 0.4 of a step
    np.testing.assert_array_equal(model(x, training=True), model(x, training=False))


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_inputs_start_with_a_range_that_no_nearby_one_improves(shift, rng):
    v = np.float32(rng.normal(size=4000) + shift)
    quantizer = LSQPlus(3, "inputs")
    quantizer.build()
    with initializing():
        quantizer(v)
    step, beta = (np.float64(w.numpy()) for w in quantizer.variables)

    def error(step, beta):
        return np.mean((oracle(v, step, beta, 0, 7, v, 1)[0] - v) ** 2)

    assert beta <= 0 and beta <= v.min() * 0.3 + 1e-6
    assert error(step, beta) <= 1.02 * min(error(step * f, beta * f) for f in (0.8, 0.9, 1.1, 1.2))


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_with_one_bit_less_no_value_moves_by_more_than_the_old_step(bits, rng):
    for beta in (-0.61, -0.43, 0.0):
        quantizer = built(0.1, beta, bits=bits, role="inputs")
        v = np.float32(rng.uniform(-3, 3, 2000))
        moved = np.abs(quantizer(v).numpy() - quantizer.halved()(v).numpy())
        assert moved.max() <= 0.1 * (1 + 1e-4)


def test_it_says_what_is_wrong_with_its_parameters():
    assert "not set" in built(0.1, np.nan, bits=4, role="inputs").problem
    assert "collapsed to 1e-06" in built(1e-6, bits=4, role="weights").problem
    quantizer = LSQPlus(4, "inputs")
    quantizer.build()
    for bad, role in ((np.float32([1, np.inf]), "inputs"), (np.float32([1, np.nan]), "weights")):
        quantizer = LSQPlus(4, role)
        quantizer.build()
        with pytest.raises(ValueError, match="not finite"), initializing():
            quantizer(bad)
    with pytest.raises(ValueError, match='role: expected "weights" or "inputs", received \'both\''):
        LSQPlus(4, "both")
