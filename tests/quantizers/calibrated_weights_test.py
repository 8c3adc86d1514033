"""Post-training quantization of weights, of all and of each channel."""

import keras
import numpy as np
import pytest

from tests.quantizers.contract import Contract
from tfqnas.dqss import freeze
from tfqnas.layers import QuantConv2D, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, CalibratedWeights, MinMax, Mixture, initializing
from tfqnas.quantizers.ranges import METHODS


def surrogate(quantizer, x):
    shape = [-1 if i == (quantizer.axis or 0) % x.ndim else 1 for i in range(x.ndim)]

    def clipped(x, high):
        high = high if quantizer.axis is None else np.reshape(high, shape)
        return np.clip(x, -high, high), high / quantizer.qp

    base, step = clipped(x, np.float64(quantizer.ends.values.numpy()))
    rounding = np.rint(base / step) * step - base
    return lambda x, high: clipped(x, high)[0] + rounding, {}


CONTRACT = Contract(
    CalibratedWeights,
    [{"bits": 4, "method": "mse"}, {"bits": 3, "method": "percentile", "axis": -1, "channels": 4}],
    surrogate,
)


def ready(w, **settings):
    quantizer = CalibratedWeights(**settings)
    quantizer.build()
    with initializing():
        quantizer(w)
    return quantizer


def kernel(rng):
    return np.float32(rng.standard_t(3, size=(3, 3, 4, 5)) * [0.1, 0.2, 0.5, 1, 2])


@pytest.mark.parametrize("axis", [None, -1, 2])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_it_rounds_and_clips_by_its_scales(bits, method, axis, rng):
    w = kernel(rng)
    quantizer = ready(w, bits=bits, method=method, axis=axis)
    top = 2 ** (bits - 1) - 1
    codes, scale, zero = quantizer.to_integers(w)
    assert zero == 0 and np.abs(codes).max() <= top and scale.shape == (() if axis is None else (w.shape[axis],))
    scale = np.float64(scale)
    if axis is not None:
        scale = scale.reshape([-1 if i == axis % 4 else 1 for i in range(4)])
    u = np.float64(w) / scale
    off = np.abs(u - np.floor(u) - 0.5) > 1e-3
    expected = np.clip(np.rint(u), -top, top) * scale
    np.testing.assert_allclose(quantizer(w).numpy()[off], expected[off], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codes.numpy() * scale, quantizer(w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_mse_has_the_smallest_error_of_the_methods_and_channels_help(bits, rng):
    w = kernel(rng)

    def error(**settings):
        return np.mean((ready(w, bits=bits, **settings)(w) - w) ** 2)

    for axis in (None, -1):
        errors = {method: error(method=method, axis=axis) for method in METHODS}
        assert min(errors["min_max"], errors["percentile"]) >= errors["mse"]
    assert error(method="mse", axis=-1) < error(method="mse")


@pytest.mark.parametrize("axis", [None, -1])
def test_min_max_is_that_of_the_quantizer_without_parameters(axis, rng):
    w = kernel(rng)
    plain = MinMax(4, axis=axis)
    plain.build()
    np.testing.assert_allclose(ready(w, bits=4, method="min_max", axis=axis)(w), plain(w), rtol=1e-5, atol=1e-6)


def test_a_channel_of_zeros_stays_zero(rng):
    w = kernel(rng)
    w[..., 2] = 0
    assert np.abs(ready(w, bits=4, method="mse", axis=-1)(w)[..., 2]).max() == 0
    assert np.abs(ready(0 * w, bits=4, method="kl", axis=-1)(0 * w)).max() == 0


def test_in_layers_the_number_of_channels_is_seen_and_saved(rng, tmp_path):
    prototype = CalibratedWeights(4, method="percentile", axis=-1)
    layers = [QuantConv2D(5, 3, weight_quantizer=prototype)]
    layers += [QuantDepthwiseConv2D(3, weight_quantizer=prototype.along(2))]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    assert np.isnan(model(np.ones((1, 8, 8, 3), np.float32))).all()
    assert all("not set" in layer.weight_quantizer.problem for layer in layers)
    with initializing():
        expected = model(np.ones((1, 8, 8, 3), np.float32))
    assert [layer.weight_quantizer.ends.values.shape for layer in layers] == [(5,), (5,)]
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "m.keras")(np.ones((1, 8, 8, 3), np.float32)), expected
    )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_in_a_mixture_its_scales_have_a_path_of_their_own_and_the_frozen_layer_has_them(place, rng):
    methods = [CalibratedWeights(3, method=method, axis=-1) for method in ("mse", "min_max")]
    layer = QuantConv2D(5, 3, weight_quantizer=Mixture([LSQ(3), *methods]), name="conv")
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    x = np.float32(rng.normal(size=(2, 8, 8, 3)))
    layer.set_weights([kernel(rng)[:, :, :3], *layer.get_weights()[1:]])
    with initializing():
        model(x)
    mixed = layer.weight_quantizer
    paths = [v.path for v in model.variables]
    assert len(set(paths)) == len(paths) and all("conv/weight_quantizer" in v.path for v in mixed.variables)
    mixed.alpha.assign(1e4 * np.eye(3, dtype=np.float32)[place])
    frozen = freeze(model)
    assert np.isfinite(model(x)).all() and not frozen.get_layer("conv").weight_quantizer.problem
    np.testing.assert_array_equal(frozen(x), model(x))


def test_along_changes_an_axis_and_leaves_one_scale_alone():
    assert CalibratedWeights(4).along(2).axis is None
    assert CalibratedWeights(4, axis=-1, channels=3).along(2).get_config()["channels"] is None
    assert MinMax(4, axis=-1).along(2).axis == 2 and MinMax(4).along(2).axis is None


def test_other_settings_are_refused(rng):
    with pytest.raises(ValueError, match=r"method: expected one of \('min_max', .*'kl'\), received 'best'"):
        CalibratedWeights(4, method="best")
    with pytest.raises(ValueError, match="expected a symmetric range"):
        CalibratedWeights(4, narrow_range=False)
    with pytest.raises(ValueError, match="not finite"):
        ready(np.float32([[1, np.inf]]), bits=4)
