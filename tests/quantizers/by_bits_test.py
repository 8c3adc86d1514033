"""ByBits: what it computes with a bit width is what that bit width's quantizer computes by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers import lsq_test
from tests.quantizers.contract import Contract
from tfqnas.quantizers import LSQ, BatchQuant, ByBits, MinMax, initializing


def surrogate(quantizer, x):
    """That of the quantizer of the highest bit width, the others' parameters have no slope."""
    one = quantizer.static(quantizer.bits, statistics=np.float32([[-1.5], [2.5]]))
    function, scales = lsq_test.surrogate(one, x)
    return lambda x, step: function(x, step[-1]), scales


LSQ_4 = keras.saving.serialize_keras_object(LSQ(bits=4, name="lsq"))
CONTRACT = Contract(
    ByBits, [{"prototype": LSQ_4, "choices": [2, 3, 4]}, {"prototype": LSQ_4, "choices": [4, 32]}], surrogate
)

SIGNS = {"weights": LSQ(bits=4), "narrow": LSQ(bits=4, narrow_range=True), "inputs": LSQ(bits=4, signed=False)}


def ready(prototype, x, choices=(2, 3, 4), sizes=()):
    quantizer = ByBits(prototype, choices, sizes)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


def values(rng):
    return tf.constant(rng.normal(size=(4, 5, 5, 3)), tf.float32)


def gradients(function, x, variables):
    upstream = tf.random.stateless_normal(x.shape, seed=(1, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return [y, *tape.gradient(y, [x, *(v.value for v in variables)], upstream)]


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("prototype", SIGNS.values(), ids=SIGNS)
def test_with_a_bit_width_it_is_that_lsq_to_the_bit_and_so_are_the_gradients(prototype, bits, rng):
    x = values(rng)
    quantizer = ready(prototype, x)
    one = quantizer.static(bits)
    assert type(one) is LSQ and one.bits == bits and one.problem is None
    bits_tensor = tf.constant(bits)
    y, dx, dstep = gradients(lambda x: quantizer(x, bits=bits_tensor), x, [quantizer.step])
    expected, expected_dx, expected_dstep = gradients(one, x, [one.step])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, expected_dx)
    place = quantizer.choices.index(bits)
    assert float(dstep[place]) == pytest.approx(float(expected_dstep), rel=1e-5)
    assert np.count_nonzero(dstep) == 1


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_with_a_bit_width_it_is_that_batch_quant(bits, rng):
    x = values(rng)
    quantizer = ready(BatchQuant(4), x)
    quantizer.theta.assign([0.1, 0.2, 0.3])
    quantizer.offset.assign([0.4, -0.1, 0.2])
    statistics = quantizer.observe(x)
    one = quantizer.static(bits, statistics=statistics.numpy())
    options = {"statistics": statistics, "snap": False}
    ours = gradients(lambda x: quantizer(x, bits=tf.constant(bits), **options), x, [quantizer.theta, quantizer.offset])
    theirs = gradients(lambda x: one(x, **options), x, [one.theta, one.offset])
    place = bits - 2
    for own, other in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_array_equal(own, other)
    for own, other in zip(ours[2:], theirs[2:], strict=True):
        assert float(own[place]) == pytest.approx(float(other), rel=1e-4)
        assert np.count_nonzero(np.delete(own, place)) == 0


def test_one_trace_serves_every_bit_width_and_kernel_size(rng):
    x = values(rng)
    quantizer = ready(LSQ(bits=4), x, sizes=(3, 5, 7))
    quantizer.step.assign(np.float32([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]]))
    traces = []

    @tf.function(input_signature=(tf.TensorSpec((), tf.int32),) * 2, autograph=False)
    def call(bits, size):
        traces.append(1)
        return quantizer(x, bits=bits, size=size)

    for i, bits in enumerate((2, 3, 4)):
        for j, size in enumerate((3, 5, 7)):
            one = quantizer.static(bits, size)
            assert one.step.numpy() == quantizer.step.numpy()[i, j]
            np.testing.assert_array_equal(call(bits, size), one(x))
    assert len(traces) == 1
    np.testing.assert_array_equal(quantizer(x), quantizer.static(4, 7)(x))  # the largest of both


def test_32_bits_leave_the_tensor_as_it_is_and_the_parameters_without_a_gradient(rng):
    x = values(rng)
    quantizer = ready(LSQ(bits=4), x, choices=(2, 4, 32))

    @tf.function(input_signature=(tf.TensorSpec((), tf.int32),), autograph=False)
    def call(bits):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = quantizer(x, bits=bits)
        return y, *tape.gradient(y, [x, quantizer.step.value])

    y, dx, dstep = call(32)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, np.ones(x.shape))
    assert np.count_nonzero(dstep) == 0
    y, _, dstep = call(2)
    np.testing.assert_array_equal(y, quantizer.static(2)(x))
    assert np.count_nonzero(dstep) == 1 and dstep[0] != 0


def test_initialisation_sets_each_bit_width_as_its_own_quantizer(rng):
    x = values(rng)
    quantizer = ready(LSQ(bits=4), x, sizes=(3, 5))
    for i, bits in enumerate((2, 3, 4)):
        one = LSQ(bits=bits)
        one.build()
        with initializing():
            one(x)
        np.testing.assert_array_equal(quantizer.step.numpy()[i], np.full(2, one.step.numpy()))


def test_parameters_that_are_not_set_spoil_no_other_and_are_reported(rng):
    x = values(rng)
    quantizer = ready(LSQ(bits=4), x)
    quantizer.step.assign([np.nan, 0.2, 0.1])
    assert np.isfinite(quantizer(x, bits=3)).all() and np.isnan(quantizer(x, bits=2)).any()
    assert "parameters of a bit width are not set" in quantizer.problem


def test_wrong_settings_and_bit_widths_are_refused(rng):
    with pytest.raises(TypeError, match="MinMax: cannot be chosen by bit width"):
        ByBits(MinMax())
    with pytest.raises(ValueError, match=r"ascending bit widths, 32 the last if at all, received \(4, 2\)"):
        ByBits(LSQ(bits=4), (4, 2))
    with pytest.raises(ValueError, match="expected ascending bit widths"):
        ByBits(LSQ(bits=4), (32,))
    with pytest.raises(ValueError, match="one sign serves all"):
        ByBits(LSQ(bits=4, signed=None))
    x = values(rng)
    with pytest.raises(ValueError, match=r"bits: expected one of \(2, 3, 4\), received 8"):
        ready(LSQ(bits=4), x)(x, bits=8)
    with pytest.raises(TypeError, match="see `static`"):
        ready(LSQ(bits=4), x).to_integers(x)
    with pytest.raises(TypeError, match="no longer inherited"):
        ready(LSQ(bits=4), x).halved()
