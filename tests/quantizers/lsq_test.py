"""LSQ against an oracle in float64. Exact halves round to even, as in numpy and in XNNPACK on x86-64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract
from tfqnas.quantizers import LSQ, initializing, integer_range, lsq
from tfqnas.quantizers.lsq import MIN_STEP


def surrogate(quantizer, x):
    """LSQ as its straight-through estimator sees it: around the base point, rounding adds a constant."""
    qn, qp = integer_range(quantizer.bits, quantizer.signed, quantizer.narrow_range)
    u = np.clip(x / np.float64(quantizer.step.numpy()), qn, qp)
    rounding = np.rint(u) - u
    scale = {"step": 1 / np.sqrt(x.size * qp)}
    return lambda x, step: (np.clip(x / step, qn, qp) + rounding) * step, scale


CONTRACT = Contract(
    LSQ,
    [{"bits": 4}, {"bits": 2, "signed": False}, {"bits": 3, "narrow_range": True}, {"bits": 8, "signed": None}],
    surrogate,
)

RANGES = [
    pytest.param(bits, signed, narrow, id=f"{bits}bits-{'signed' if signed else 'unsigned'}{'-narrow' * narrow}")
    for bits in (2, 3, 4, 8)
    for signed, narrow in ((True, False), (True, True), (False, False))
]
HALVED = [
    pytest.param(bits, signed, narrow, id=f"{bits}bits-{'signed' if signed else 'unsigned'}{'-narrow' * narrow}")
    for bits in (8, 7, 6, 5, 4, 3)
    for signed, narrow in ((True, False), (True, True), (False, False))
]


def oracle(v, step, qn, qp, upstream, elements):
    """`(output, gradient to v, gradient to the step)` of LSQ in float64; the ends belong to the range."""
    v, upstream = np.float64(v), np.float64(upstream)
    u = v / step
    codes = np.rint(np.clip(u, qn, qp))
    inside = (u >= qn) & (u <= qp)
    to_step = np.where(inside, codes - u, np.where(u < qn, qn, qp))
    return codes * step, upstream * inside, np.sum(upstream * to_step) / np.sqrt(elements * qp)


def built(step=None, **settings):
    quantizer = LSQ(**settings)
    quantizer.build()
    if step is not None:
        quantizer.step.assign(step)
    return quantizer


def computed(quantizer, v, upstream, batched=False):
    """`(output, gradient to v, gradient to the step)` of the quantizer."""
    v = tf.constant(v, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v, batched=batched)
    dv, ds = tape.gradient(y, [v, quantizer.step.value], output_gradients=tf.constant(upstream, tf.float32))
    return y.numpy(), dv.numpy(), ds.numpy()


def assert_oracle(quantizer, v, upstream, elements, batched=False):
    step = np.float64(quantizer.step.numpy())
    y, dv, ds = computed(quantizer, v, upstream, batched)
    expected, expected_dv, expected_ds = oracle(v, step, quantizer.qn, quantizer.qp, upstream, elements)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * step)
    np.testing.assert_allclose(dv, expected_dv, rtol=1e-6)  # exactly 0 outside
    scale = np.sum(np.abs(upstream)) / np.sqrt(elements * quantizer.qp)  # what float32 can cancel
    assert ds == pytest.approx(expected_ds, rel=1e-5, abs=1e-5 * scale)


def off_ties(rng, qn, qp, step, size):
    """Values from well below to well above the range, none nearer to a tie or an end than float32 can tell."""
    codes = rng.integers(qn - (qp - qn), qp + (qp - qn) + 1, size)
    fraction = rng.uniform(0.01, 0.49, size) * rng.choice((-1, 1), size)
    return np.float32((codes + fraction) * step)


# -- The mathematics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.0037, 0.3, 1.0, 25.0])
@pytest.mark.parametrize(("bits", "signed", "narrow_range"), RANGES)
def test_output_and_both_gradients_are_those_of_the_oracle(bits, signed, narrow_range, step, rng):
    quantizer = built(step, bits=bits, signed=signed, narrow_range=narrow_range)
    v = off_ties(rng, quantizer.qn, quantizer.qp, np.float32(step), (5, 7, 11))
    assert (v < quantizer.qn * step).any() and (v > quantizer.qp * step).any()
    assert_oracle(quantizer, v, np.float32(rng.normal(size=v.shape)), v.size)


@pytest.mark.parametrize("step", [0.25, 1.0])  # powers of two: ties and ends are exact in float32
@pytest.mark.parametrize(("bits", "signed", "narrow_range"), RANGES)
def test_ties_round_to_even_and_the_ends_belong_to_the_range(bits, signed, narrow_range, step, rng):
    quantizer = built(step, bits=bits, signed=signed, narrow_range=narrow_range)
    v = np.float32(step * np.arange(quantizer.qn - 1, quantizer.qp + 1.25, 0.5))
    assert_oracle(quantizer, v, np.float32(rng.normal(size=v.shape)), v.size)


@pytest.mark.parametrize(("bits", "signed", "narrow_range"), RANGES)
def test_just_inside_the_ends_gradients_pass_and_just_outside_they_stop(bits, signed, narrow_range):
    step = 0.3
    quantizer = built(step, bits=bits, signed=signed, narrow_range=narrow_range)
    qn, qp = quantizer.qn, quantizer.qp
    v = np.float32(step * np.array([qn - 1e-3, qn + 1e-3, qp - 1e-3, qp + 1e-3]))
    _, dv, _ = computed(quantizer, v, np.ones(4))
    np.testing.assert_array_equal(dv, [0, 1, 1, 0])


def test_what_is_quantized_stays_as_it_is(rng):
    for bits, step in ((2, 0.3), (4, 0.1), (8, 0.0123)):
        quantizer = built(step, bits=bits)
        once = quantizer(np.float32(rng.normal(size=1000)))
        np.testing.assert_array_equal(quantizer(once), once)


@pytest.mark.parametrize("unknown_shape", [False, True])
def test_in_a_graph_it_is_the_same(unknown_shape, rng):
    v, step = np.float32(rng.normal(size=(4, 6))), 0.2
    spec = tf.TensorSpec((None, None) if unknown_shape else v.shape, tf.float32)

    @tf.function(input_signature=(spec, tf.TensorSpec((), tf.float32)), autograph=False)
    def gradients(v, step):
        y = lsq(v, step, 3, -4, 3, 1.0)
        return y, *tf.gradients(tf.reduce_sum(y * y), [v, step])

    y, dv, ds = gradients(v, step)
    expected, *_ = oracle(v, np.float32(step), -4, 3, v, 1)
    _, expected_dv, expected_ds = oracle(v, np.float32(step), -4, 3, 2 * expected, 1 / 3)  # N * Qp = 1
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_allclose(dv, expected_dv, rtol=1e-5)
    np.testing.assert_allclose(ds, expected_ds, rtol=1e-4)


# -- The scale of the step's gradient, and its initialisation ------------------------------------------------


@pytest.mark.parametrize("shape", [(40,), (3, 3, 5, 7)])
def test_a_weight_tensor_counts_all_of_its_elements(shape, rng):
    quantizer = built(0.2, bits=4)
    assert_oracle(quantizer, off_ties(rng, -8, 7, 0.2, shape), rng.normal(size=shape), np.prod(shape))


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_batch_counts_the_elements_of_one_example(batch, rng):
    quantizer = built(0.2, bits=4, signed=False)
    example = off_ties(rng, 0, 15, 0.2, (1, 4, 4, 3))
    upstream = rng.normal(size=example.shape)
    _, _, alone = computed(quantizer, example, upstream, batched=True)
    tiled = [np.tile(a, (batch, 1, 1, 1)) for a in (example, upstream)]
    _, _, together = computed(quantizer, *tiled, batched=True)
    # Of a mean loss over the batch each example has 1 / batch: the gradient does not depend on the batch size.
    assert together / batch == pytest.approx(alone, rel=1e-5)
    assert_oracle(quantizer, *tiled, 4 * 4 * 3, batched=True)


@pytest.mark.parametrize(("bits", "signed", "narrow_range"), RANGES)
def test_the_first_step_has_the_smallest_squared_error(bits, signed, narrow_range, rng):
    x = rng.normal(size=(3, 3, 8, 16)).astype(np.float32)
    quantizer = built(bits=bits, signed=signed, narrow_range=narrow_range)
    with initializing():
        y = quantizer(x)
    np.testing.assert_array_equal(y, quantizer(x))  # the pass itself computes with the new step
    qn, qp = integer_range(bits, signed, narrow_range)

    def error(step):
        return np.mean((np.clip(np.rint(x / step), qn, qp) * step - x) ** 2)

    whole = max(x.max() / qp, x.min() / qn if qn else 0)
    least = min(error(share * whole) for share in np.linspace(0.01, 1, 400))
    assert error(quantizer.step.numpy()) <= 1.02 * least


def test_the_first_step_of_zeros_is_one_and_stays_deployable():
    quantizer = built(bits=8)
    with initializing():
        quantizer(np.zeros((2, 3), np.float32))
    assert quantizer.step.numpy() == 1 and quantizer.problem is None


def test_outside_of_the_initialisation_no_call_sets_the_step(rng):
    quantizer = built(0.5, bits=4)
    quantizer(rng.normal(size=10).astype(np.float32))
    with pytest.raises(ZeroDivisionError), initializing():
        raise ZeroDivisionError
    quantizer(rng.normal(size=10).astype(np.float32))
    assert quantizer.step.numpy() == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_is_not_set_from_values_that_are_not_finite(bad):
    quantizer = built(0.5, bits=4)
    message = f"{quantizer.path}: cannot set a step size from values that are not finite"
    with pytest.raises(ValueError, match=message), initializing():
        quantizer(tf.constant([1.0, bad]))
    assert quantizer.step.numpy() == 0.5


def test_quantizers_are_not_initialised_in_a_graph():
    quantizer = built(0.5, bits=4)
    with pytest.raises(RuntimeError, match="initialised eagerly"), initializing():
        tf.function(lambda: quantizer(tf.ones(3)), autograph=False)()


# -- The step stays a step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_until_it_is_initialised_its_output_is_nan(signed):
    quantizer = built(bits=4, signed=signed)
    assert np.isnan(quantizer(tf.constant([-1.0, 0.0, 0.3, 9.0]))).all()


def test_its_problem_says_what_is_wrong():
    assert "not set: call tfqnas.initialize(model, images) after loading weights" in built(bits=4).problem
    assert "collapsed to 1e-06" in built(0.0, bits=4).problem or "collapsed to 0" in built(0.0, bits=4).problem
    assert "collapsed to 1e-06" in built(MIN_STEP, bits=4).problem
    assert built(1e-3, bits=4).problem is None


@pytest.mark.parametrize("gradient", [1e3, 1e30, -1e30])
@pytest.mark.parametrize("project_own", [True, False])
def test_no_update_takes_the_step_to_zero_or_changes_its_sign(gradient, project_own):
    from tfqnas.train.optimizer import FusedSGD

    quantizer = built(0.1, bits=4)
    optimizer = (FusedSGD if project_own else keras.optimizers.SGD)(1.0, momentum=0.9, nesterov=True)
    optimizer.build([quantizer.step])
    for _ in range(3):
        optimizer.apply([tf.constant(gradient)], [quantizer.step])
        assert np.isfinite(quantizer.step.numpy()) and quantizer.step.numpy() >= np.float32(MIN_STEP)
    if gradient > 0:
        assert quantizer.step.numpy() == np.float32(MIN_STEP)  # the updates did push it down
    assert np.isfinite(quantizer(tf.constant([-1.0, 1.0]))).all()


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_nor_does_keras_fit(direction, rng):
    from tfqnas.layers import QuantDense

    layer = QuantDense(3, weight_quantizer=LSQ(bits=2), input_quantizer=LSQ(bits=2, signed=False))
    model = keras.Sequential([keras.Input((4,)), layer])
    for quantizer in layer.quantizers:
        quantizer.step.assign(0.1)
    model.compile(keras.optimizers.SGD(100.0), loss=lambda _, y: direction * 1e6 * tf.reduce_mean(tf.abs(y), -1))
    # Alternating signs of a huge loss push the steps both ways.
    model.fit(rng.uniform(1, 2, (12, 4)), np.zeros((12, 3)), batch_size=4, epochs=2, verbose=0)
    steps = [quantizer.step.numpy() for quantizer in layer.quantizers]
    assert all(np.isfinite(s) and s >= np.float32(MIN_STEP) for s in steps)
    assert any(abs(s - 0.1) > 0.05 for s in steps)


# -- Integers, and one bit less ------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.25, 0.3, 0.0137])
@pytest.mark.parametrize(("bits", "signed", "narrow_range"), RANGES)
def test_the_integers_are_those_of_the_forward_pass_at_ties_too(bits, signed, narrow_range, step, rng):
    quantizer = built(step, bits=bits, signed=signed, narrow_range=narrow_range)
    ties = step * np.arange(quantizer.qn - 1, quantizer.qp + 1.25, 0.5)
    x = np.float32(np.concatenate([ties, rng.normal(size=500) * quantizer.qp * step]))
    codes, scale, zero_point = quantizer.to_integers(x)
    assert codes.dtype == tf.int32 and zero_point == 0 and scale == np.float32(step)
    assert codes.numpy().min() == quantizer.qn and codes.numpy().max() == quantizer.qp
    np.testing.assert_allclose(codes.numpy() * np.float64(scale), quantizer(x), rtol=1e-6)


def test_halved_has_one_bit_less_and_twice_the_step():
    quantizer = built(0.3, bits=4, narrow_range=True)
    half = quantizer.halved()
    assert (half.bits, half.signed, half.narrow_range, half.qn, half.qp) == (3, True, True, -3, 3)
    assert half.step.numpy() == 2 * quantizer.step.numpy() and half.step is not quantizer.step
    assert quantizer.bits == 4 and quantizer.step.numpy() == np.float32(0.3)
    assert not LSQ(bits=4).halved().built
    with pytest.raises((ValueError, TypeError), match="expected a whole number from 2 to 16, received 1"):
        built(0.3, bits=2).halved()


def worst_move(before, after, rng):
    """Largest change in steps of `before`, over random weights, ties, codes and values far outside."""
    step = before.step.numpy()
    codes = np.arange(before.qn - 4, before.qp + 4.25, 0.5)
    spread = rng.choice((0.1, 1, 3), 4000) * before.qp
    v = np.float32(step * np.concatenate([codes, rng.normal(size=4000) * spread]))
    return np.max(np.abs(before(v).numpy().astype(np.float64) - after(v).numpy())) / step


@pytest.mark.parametrize("step", [0.25, 0.0731])
@pytest.mark.parametrize(("bits", "signed", "narrow_range"), HALVED)
def test_bit_inheritance_moves_no_value_by_more_than_the_old_step(bits, signed, narrow_range, step, rng):
    before = built(step, bits=bits, signed=signed, narrow_range=narrow_range)
    assert worst_move(before, before.halved(), rng) == pytest.approx(1.0, rel=1e-4)  # bounded by it, and tight


@pytest.mark.parametrize("signed", [True, False])
def test_from_4_to_2_bits_values_move_by_up_to_three_steps(signed, rng):
    before = built(0.25, bits=4, signed=signed)
    assert worst_move(before, before.halved().halved(), rng) == pytest.approx(3.0, rel=1e-6)


# -- Ranges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "signed", "narrow_range", "expected"),
    [
        (4, True, False, (-8, 7)),
        (4, False, False, (0, 15)),
        (4, True, True, (-7, 7)),
        (2, True, False, (-2, 1)),
        (2, True, True, (-1, 1)),
        (2, False, False, (0, 3)),
        (16, True, False, (-32768, 32767)),
    ],
)
def test_integer_ranges(bits, signed, narrow_range, expected):
    assert integer_range(bits, signed, narrow_range) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, True), "bits: expected a whole number from 2 to 16, received 1"),
        ((17, True), "bits: .*received 17"),
        ((4.0, True), "bits: .*received 4.0"),
        ((4, None), "signed: expected True or False, received None"),
        ((4, False, True), "narrow_range: only a signed range has a lowest code to drop"),
    ],
)
def test_a_range_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        integer_range(*arguments)


# -- A sign that the tensor decides --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "bits", "signed"),
    [
        (lambda x: x, 4, True),
        (lambda x: np.maximum(x, 0), 4, False),
        (lambda x: np.zeros_like(x), 4, False),
        # Of h-swish: down to -0.375, which is worth less than finer steps.
        (lambda x: x * np.clip(x + 3, 0, 6) / 6, 3, False),
        (lambda x: x * np.clip(x + 3, 0, 6) / 6, 8, True),
    ],
    ids=["both", "relu", "zeros", "h-swish", "h-swish-8"],
)
def test_an_open_sign_is_decided_by_the_tensor_and_stays(values, bits, signed):
    x = np.float32(values(np.random.default_rng(0).normal(size=4000) * 3))
    quantizer = built(bits=bits, signed=None)
    assert quantizer.get_config()["signed"] is None and not quantizer.is_set
    with initializing():
        quantizer(x)
    assert quantizer.signed is signed and (quantizer.qn < 0) is signed and quantizer.get_config()["signed"] is signed
    step = quantizer.step.numpy()
    with initializing(missing_only=True):
        quantizer(9 * x)
    assert quantizer.step.numpy() == step
    with initializing():
        quantizer(9 * x)
    assert quantizer.signed is signed and quantizer.step.numpy() >= step


def test_a_trace_before_the_sign_is_decided_is_refused():
    quantizer = built(bits=4, signed=None)
    with pytest.raises(RuntimeError, match=r"call tfqnas.initialize\(model, images\)"):
        tf.function(quantizer)(tf.ones(3))


def test_files_that_say_that_the_step_is_shared_are_still_read():
    for shared in (True, False):
        config = {**LSQ(bits=4, name="q").get_config(), "shared": shared, "sizes": []}
        assert LSQ.from_config(config).get_config() == LSQ(bits=4, name="q").get_config()


def test_of_several_tensors_in_one_pass_the_largest_step_stays(rng):
    x = rng.normal(size=(4, 16)).astype(np.float32)
    alone, together = built(bits=8), built(bits=8)
    with initializing():
        alone(3 * x)
    with initializing():  # a layer that is called three times
        for factor in (1, 3, 2):
            together(factor * x)
    assert together.step.numpy() == alone.step.numpy()
