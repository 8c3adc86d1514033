"""LSQ with a step for each channel: in every channel it is LSQ."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers.contract import Contract
from tfqnas import quantizers
from tfqnas.dqss import freeze
from tfqnas.dqss.variables import ranges_of
from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, LSQPerChannel, LSQPlus, Mixture, initializing, integer_range


def surrogate(quantizer, x):
    """That of LSQ in each channel; the count of the gradient's scale is a channel's."""
    qn, qp = integer_range(quantizer.bits, True, quantizer.narrow_range)
    shape = [-1 if i == quantizer.axis % x.ndim else 1 for i in range(x.ndim)]
    u = np.clip(x / np.float64(quantizer.steps.values.numpy()).reshape(shape), qn, qp)
    rounding = np.rint(u) - u
    scale = {"step": 1 / np.sqrt(x.size / quantizer.channels * qp)}
    return lambda x, step: (np.clip(x / step.reshape(shape), qn, qp) + rounding) * step.reshape(shape), scale


CONTRACT = Contract(
    LSQPerChannel, [{"bits": 4, "channels": 4}, {"bits": 2, "narrow_range": True, "channels": 4}], surrogate
)


def kernel(rng):
    return np.float32(rng.standard_t(3, size=(3, 3, 4, 5)) * [0.1, 0.2, 0.5, 1, 2])


def ready(w, **settings):
    quantizer = LSQPerChannel(**settings)
    quantizer.build()
    with initializing():
        quantizer(w)
    return quantizer


def computed(quantizer, w, upstream):
    w = tf.constant(w)
    with tf.GradientTape() as tape:
        tape.watch(w)
        y = quantizer(w)
    return y, *tape.gradient(y, [w, *(v.value for v in quantizer.trainable_variables)], tf.constant(upstream))


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_channel_is_lsq_by_itself(bits, axis, narrow, rng):
    w, upstream = kernel(rng), np.float32(rng.normal(size=(3, 3, 4, 5)))
    quantizer = ready(w, bits=bits, axis=axis, narrow_range=narrow)
    quantizer.steps.values.assign(0.6 * quantizer.steps.values)  # so that each clips something
    y, to_w, to_steps = computed(quantizer, w, upstream)
    assert 0 < np.mean(to_w == 0) < 1
    codes, scales, zero = quantizer.to_integers(w)
    assert zero == 0 and scales.shape == (w.shape[axis],)
    for channel in range(w.shape[axis]):
        one = LSQ(bits, narrow_range=narrow)
        one.build()
        one.step.assign(quantizer.steps.values[channel])
        part = [np.take(array, channel, axis) for array in (w, upstream, y, to_w, codes)]
        expected = computed(one, part[0], part[1])
        np.testing.assert_allclose(part[2], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(part[3], expected[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(to_steps[channel], expected[2], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(part[4], one.to_integers(part[0])[0])


def test_at_2_bits_each_channel_starts_as_weights_of_lsq_plus_do(rng):
    w = kernel(rng)
    steps = ready(w, bits=2).steps.values.numpy()
    for channel in range(5):
        one = LSQPlus(2, "weights")
        one.build()
        with initializing():
            one(w[..., channel])
        assert steps[channel] == pytest.approx(one.step.numpy(), rel=1e-6)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_it_starts_where_outputs_of_inputs_behind_a_relu_have_the_smallest_error(bits, rng):
    w = np.float32(rng.normal([0, 0.5, 2], 1, (64, 3)))
    quantizer, top = ready(w, bits=bits), np.abs(w).max(0) / (2 ** (bits - 1) - 1)
    inputs = np.maximum(rng.normal(size=(20000, 64)), 0)

    def errors(steps):
        quantizer.steps.values.assign(steps)
        return np.mean((inputs @ (quantizer(w).numpy() - w)) ** 2, axis=0)

    chosen = errors(quantizer.steps.values.numpy())
    assert (chosen <= 1.1 * np.min([errors(share * top) for share in np.geomspace(0.1, 1, 40)], axis=0)).all()
    assert (chosen < 0.5 * np.mean([errors(share * top) for share in (0.3, 1.0)], axis=0)).all()


def test_channels_of_zeros_stay_zero_and_can_learn(rng):
    w = kernel(rng)
    w[..., 2] = 0
    quantizer = ready(w, bits=2)
    assert np.abs(quantizer(w)[..., 2]).max() == 0
    others = ready(w[..., [0, 1, 3, 4]], bits=2).steps.values.numpy()
    assert quantizer.steps.values[2] == others.max()
    assert np.abs(ready(0 * w, bits=4)(0 * w)).max() == 0
    with pytest.raises(ValueError, match="not finite"):
        ready(np.float32([[1, np.nan]]), bits=4)
    with pytest.raises(ValueError, match="expected signed codes, received signed=False"):
        LSQPerChannel(4, signed=False)


def test_it_has_a_name_beside_that_of_lsq():
    quantizer = quantizers.get("lsq_per_channel", 3, "weights")
    assert isinstance(quantizer, LSQPerChannel) and quantizers.name_of(quantizer) == "lsq_per_channel"
    assert isinstance(quantizers.get("lsq", 3, "weights"), LSQ)
    assert quantizer.along(-1) is quantizer and quantizer.along(2).axis == 2


@pytest.mark.parametrize("place", [0, 1])
def test_in_a_model_its_steps_are_saved_learned_and_frozen(place, rng, tmp_path):
    prototype = LSQPerChannel(3)
    layers = [QuantConv2D(5, 3, weight_quantizer=Mixture([LSQPlus(3, "weights"), prototype]), name="conv")]
    layers += [QuantDepthwiseConv2D(3, weight_quantizer=prototype.along(2), name="depthwise")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    x = np.float32(rng.normal(size=(2, 8, 8, 3)))
    layers[0].set_weights([kernel(rng)[:, :, :3], *layers[0].get_weights()[1:]])
    assert np.isnan(model(x)).all()
    with initializing():
        model(x)
    paths = [v.path for v in model.variables]
    assert len(set(paths)) == len(paths)
    # Each channel's step moves relative to its own size.
    ranges = ranges_of(model)
    expected = np.concatenate([np.abs(v.numpy()).ravel() for v in ranges.variables])
    np.testing.assert_allclose(ranges.scales, expected, rtol=1e-6)
    assert len(np.unique(expected)) == 1 + 5 + 5
    mixed = layers[0].weight_quantizer
    mixed.alpha.assign(1e4 * np.eye(2, dtype=np.float32)[place])
    frozen = freeze(model)
    np.testing.assert_array_equal(frozen(x), model(x))
    assert type(frozen.get_layer("conv").weight_quantizer) is (LSQPlus, LSQPerChannel)[place]
    frozen.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras")(x), model(x))


def test_with_one_bit_less_its_steps_are_doubled(rng):
    w = kernel(rng)
    quantizer = ready(w, bits=4)
    np.testing.assert_array_equal(quantizer.halved().steps.values, 2 * quantizer.steps.values)
    assert np.abs(quantizer(w) - quantizer.halved()(w)).max() <= max(quantizer.steps.values.numpy()) * (1 + 1e-5)
