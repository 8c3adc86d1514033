"""What holds for every quantizer. A new one gets a line in `CASES` and, in numpy, its surrogate."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas.quantizers
from tfqnas.quantizers import (
    ALL,
    DSQ,
    LSQ,
    PACT,
    ROLES,
    APoT,
    BatchQuant,
    ByBits,
    Calibrated,
    CalibratedWeights,
    DoReFa,
    LSQPerChannel,
    LSQPlus,
    MinMax,
    Mixed,
    Quantizer,
    clone,
    initializing,
    integer_range,
)


def lsq_surrogate(quantizer, x):
    """LSQ as its straight-through estimator sees it: around the base point, rounding adds a constant."""
    qn, qp = integer_range(quantizer.bits, quantizer.signed, quantizer.narrow_range)
    u = np.clip(x / np.float64(quantizer.step.numpy()), qn, qp)
    rounding = np.rint(u) - u
    scale = {"step": 1 / np.sqrt(x.size * qp)}
    return lambda x, step: (np.clip(x / step, qn, qp) + rounding) * step, scale


def lsq_per_channel_surrogate(quantizer, x):
    """That of LSQ in each channel; the count of the gradient's scale is a channel's."""
    qn, qp = integer_range(quantizer.bits, True, quantizer.narrow_range)
    shape = [-1 if i == quantizer.axis % x.ndim else 1 for i in range(x.ndim)]
    u = np.clip(x / np.float64(quantizer.steps.values.numpy()).reshape(shape), qn, qp)
    rounding = np.rint(u) - u
    scale = {"step": 1 / np.sqrt(x.size / quantizer.channels * qp)}
    return lambda x, step: (np.clip(x / step.reshape(shape), qn, qp) + rounding) * step.reshape(shape), scale


def batch_quant_surrogate(quantizer, x):
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


def by_bits_surrogate(quantizer, x):
    """That of the quantizer of the highest bit width, the others' parameters have no slope."""
    one = quantizer.static(quantizer.bits, statistics=np.float32([[-1.5], [2.5]]))
    function, scales = lsq_surrogate(one, x)
    return lambda x, step: function(x, step[-1]), scales


def calibrated_surrogate(quantizer, x):
    """Rounding adds a constant; the range is given, so nothing but the tensor has a slope."""

    def function(x, low, high):
        scale = (high - low) / quantizer.qp
        zero = np.rint(-low / scale)
        u = np.clip(x / scale + zero, 0, quantizer.qp)
        return (u + rounding - zero) * scale

    scale = (np.float64(quantizer.high.numpy()) - quantizer.low.numpy()) / quantizer.qp
    u = np.clip(x / scale + np.rint(-quantizer.low.numpy() / scale), 0, quantizer.qp)
    rounding = np.floor(u + 0.5) - u
    return function, {}


def min_max_surrogate(quantizer, x):
    """The identity, but for what rounding adds."""
    rounding = np.float64(quantizer(np.float32(x))) - x
    return lambda x: x + rounding, {}


def stepwise(x, low, high, step, shift=0.0):
    """`round(clip(x + shift, low, high) / step) * step - shift` as straight-through estimators see it, in float64."""
    u = np.clip(x + shift, low, high)
    return np.rint(u / step) - u / step


def lsq_plus_surrogate(quantizer, x):
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


def pact_surrogate(quantizer, x):
    """Rounding adds a constant to the values; only the end moves with alpha."""
    alpha = np.float64(quantizer.alpha.numpy())
    rounding = stepwise(x, 0, alpha, alpha / quantizer.qp) * alpha / quantizer.qp
    return lambda x, alpha: np.clip(x, 0, alpha) + rounding, {"alpha": 1.0}


def dorefa_surrogate(quantizer, x):
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


def dsq_surrogate(quantizer, x):
    """The soft staircase, with what the second rounding adds."""
    a, (step, zero) = quantizer.sharpness, (np.float64(v) for v in quantizer._grid(tf.constant(x, tf.float32)))
    qn, qp = (quantizer.qn, quantizer.qp)

    def soft(x):
        u = np.clip(x / step + zero, qn, qp)
        k = np.log(2 / a - 1)
        return (np.floor(u) + 0.5 + np.tanh(k * (u - np.floor(u) - 0.5)) / (2 * (1 - a)) - zero) * step

    rounding = (np.rint(np.clip(x / step + zero, qn, qp)) - zero) * step - soft(x)
    return lambda x, **_: soft(x) + rounding, {}


def apot_surrogate(quantizer, x):
    alpha = np.float64(quantizer.alpha.numpy())
    low = -1 if quantizer.signed else 0
    projection = np.float64(quantizer(np.float32(x))) / alpha - np.clip(x / alpha, low, 1)
    return lambda x, alpha: (np.clip(x / alpha, low, 1) + projection) * alpha, {"alpha": 1.0}


def calibrated_weights_surrogate(quantizer, x):
    shape = [-1 if i == (quantizer.axis or 0) % x.ndim else 1 for i in range(x.ndim)]

    def clipped(x, high):
        high = high if quantizer.axis is None else np.reshape(high, shape)
        return np.clip(x, -high, high), high / quantizer.qp

    base, step = clipped(x, np.float64(quantizer.ends.values.numpy()))
    rounding = np.rint(base / step) * step - base
    return lambda x, high: clipped(x, high)[0] + rounding, {}


def mixed_surrogate(quantizer, x):
    """Of LSQ and a calibrated quantizer, what they have is named by no other."""
    (by_lsq, scales), (by_range, _) = (
        f(q, x) for f, q in zip((lsq_surrogate, calibrated_weights_surrogate), quantizer.candidates, strict=True)
    )

    def function(x, mixture, temperature, step, high):
        one, other = np.exp(mixture / temperature) / np.exp(mixture / temperature).sum()
        return one * by_lsq(x, step) + other * by_range(x, high)

    return function, {"mixture": 1.0, **scales}


LSQ_4 = keras.saving.serialize_keras_object(LSQ(bits=4, name="lsq"))
CANDIDATES = [
    keras.saving.serialize_keras_object(cls(bits=4, name=name))
    for cls, name in ((LSQ, "0_lsq"), (CalibratedWeights, "1_mse"))
]
NESTED = ("prototype", "candidates")
# These choose among quantizers: integers and bit inheritance are those of one of them.
SEVERAL = (ByBits, Mixed)
# Settings to test with; and a function `(quantizer, x)` that returns a float64 function of `x` and the
# quantizer's variables whose slopes are the gradients, with the scale of each variable's gradient.
CASES = {
    LSQ: (
        [{"bits": 4}, {"bits": 2, "signed": False}, {"bits": 3, "narrow_range": True}, {"bits": 8, "signed": None}],
        lsq_surrogate,
    ),
    LSQPerChannel: (
        [{"bits": 4, "channels": 4}, {"bits": 2, "narrow_range": True, "channels": 4}],
        lsq_per_channel_surrogate,
    ),
    Calibrated: (
        [{"bits": 8, "method": "min_max"}, {"bits": 3, "method": "mse"}, {"bits": 4, "bounds": [-1.0, 0.5]}],
        calibrated_surrogate,
    ),
    BatchQuant: ([{"bits": 4}, {"bits": 2, "snapped": False}, {"bits": 3, "signed": True}], batch_quant_surrogate),
    ByBits: ([{"prototype": LSQ_4, "choices": [2, 3, 4]}, {"prototype": LSQ_4, "choices": [4, 32]}], by_bits_surrogate),
    MinMax: ([{"bits": 8}, {"bits": 3}], min_max_surrogate),
    LSQPlus: ([{"bits": 4, "role": "inputs"}, {"bits": 3, "role": "weights"}], lsq_plus_surrogate),
    PACT: ([{"bits": 4, "initial": 1.5}, {"bits": 2, "initial": 0.7}], pact_surrogate),
    DoReFa: ([{"bits": 4, "role": "weights"}, {"bits": 3, "role": "inputs"}], dorefa_surrogate),
    DSQ: (
        [
            {"bits": 4, "role": "weights"},
            {"bits": 3, "role": "inputs", "sharpness": 0.2},
            {"bits": 3, "role": "weights", "narrow_range": True},
        ],
        dsq_surrogate,
    ),
    APoT: ([{"bits": 4, "role": "weights"}, {"bits": 4, "role": "inputs", "initial": 1.0}], apot_surrogate),
    CalibratedWeights: (
        [{"bits": 4, "method": "mse"}, {"bits": 3, "method": "percentile", "axis": -1, "channels": 4}],
        calibrated_weights_surrogate,
    ),
    Mixed: ([{"candidates": CANDIDATES, "temperature": 0.5}], mixed_surrogate),
}
PARAMETERS = [
    pytest.param(
        cls,
        settings,
        surrogate,
        id="-".join([cls.__name__, *(f"{name}={v}" for name, v in settings.items() if name not in NESTED)]),
    )
    for cls, (all_settings, surrogate) in CASES.items()
    for settings in all_settings
]
single = pytest.mark.parametrize(
    ("cls", "settings", "surrogate"), [p for p in PARAMETERS if p.values[0] not in SEVERAL]
)
every_quantizer = pytest.mark.parametrize(("cls", "settings", "surrogate"), PARAMETERS)


def values(shape=(6, 5, 4)):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def ready(cls, settings, x):
    quantizer = cls(**settings)
    quantizer.build()
    with initializing():
        quantizer(x)
    return quantizer


def subclasses_in(package, base):
    """Subclasses of `base` that the modules of `package` define."""
    modules = [package] + [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, base) and cls is not base and cls.__module__ == module.__name__
    }


def test_all_names_every_quantizer_that_the_package_defines():
    missing = {cls.__name__ for cls in subclasses_in(tfqnas.quantizers, Quantizer) - set(ALL)}
    assert not missing, f"name {missing} in tfqnas.quantizers.ALL"


def test_every_quantizer_has_its_cases_here():
    missing = {cls.__name__ for cls in set(ALL) - set(CASES)}
    assert not missing, f"give {missing} a line in CASES of {__file__}"


@every_quantizer
def test_its_configuration_rebuilds_it(cls, settings, surrogate):
    quantizer = cls(**settings, name="q")
    config = quantizer.get_config()
    assert settings.items() <= config.items() and config["name"] == "q"
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(quantizer))
    assert type(again) is cls and again is not quantizer and again.get_config() == config


@every_quantizer
def test_a_clone_is_a_new_unbuilt_quantizer_with_the_same_settings(cls, settings, surrogate):
    quantizer = ready(cls, settings, values())
    copy = clone(quantizer, "other")
    assert type(copy) is cls and copy is not quantizer and not copy.built and copy.name == "other"
    assert {**copy.get_config(), "name": quantizer.name} == quantizer.get_config()
    assert clone(quantizer).name == quantizer.name
    from_config = clone(keras.saving.serialize_keras_object(quantizer))  # as it stands in a saved layer
    assert from_config.get_config() == quantizer.get_config()


@every_quantizer
def test_a_saved_model_computes_the_same(cls, settings, surrogate, tmp_path):
    from tfqnas.layers import QuantDense

    x = values((6, 4))
    if settings.get("channels"):
        settings = {**settings, "channels": None}  # initialisation sees
    roles = cls(**settings).roles
    arguments = {"weights": "weight_quantizer", "inputs": "input_quantizer"}
    layer = QuantDense(3, **{arguments[role]: cls(**settings) for role in roles})
    model = keras.Sequential([keras.Input((4,)), layer])
    with initializing():
        expected = model(tf.constant(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), expected)
    assert [q.get_config() for q in loaded.layers[0].quantizers] == [q.get_config() for q in layer.quantizers]


@every_quantizer
def test_its_parameters_are_unusable_until_they_are_set_and_it_says_so(cls, settings, surrogate):
    quantizer = cls(**settings)
    quantizer.build()
    if quantizer.variables:
        assert "not set" in quantizer.problem
        assert np.isnan(quantizer(values())).any()
    assert ready(cls, settings, values()).problem is None


@every_quantizer
def test_it_says_for_what_it_is(cls, settings, surrogate):
    roles = cls(**settings).roles
    assert roles and set(roles) <= set(cls.BITS) <= set(ROLES)
    assert all(cls.supports(cls(**settings).bits, role) for role in roles) and not cls.supports(1, roles[0])
    assert not cls.supports(4, "biases")
    for role, argument in (("weights", "weight_quantizer"), ("inputs", "input_quantizer")):
        if role in roles:
            clone(cls(**settings), argument)
        else:
            with pytest.raises(ValueError, match=f"{argument}: expected a .* of {role}, received {cls.__name__}"):
                clone(cls(**settings), argument)


@every_quantizer
@pytest.mark.parametrize("batched", [False, True])
def test_shape_and_dtype_stay(cls, settings, surrogate, batched):
    x = values()
    y = ready(cls, settings, x)(x, batched=batched)
    assert y.shape == x.shape and y.dtype == tf.float32
    assert cls(**settings).compute_output_shape((None, 3)) == (None, 3)


@single
def test_its_output_is_a_grid_of_integers_in_range(cls, settings, surrogate):
    x = values((750, 4))
    quantizer = ready(cls, settings, x)
    if not cls.UNIFORM:
        with pytest.raises(TypeError, match="no integers times one step"):
            quantizer.to_integers(x)
        return
    codes, scale, zero_point = quantizer.to_integers(x)
    qn, qp = integer_range(quantizer.storage_bits, quantizer.signed, quantizer.narrow_range)
    assert codes.dtype == tf.int32 and qn <= codes.numpy().min() and codes.numpy().max() <= qp
    np.testing.assert_allclose((codes.numpy() - zero_point) * np.float64(scale), quantizer(x), rtol=1e-6, atol=1e-6)


@every_quantizer
def test_its_gradients_are_the_slopes_of_its_surrogate(cls, settings, surrogate):
    x = values()
    quantizer = ready(cls, settings, x)
    upstream = np.random.default_rng(2).normal(size=x.shape)
    function, scales = surrogate(quantizer, np.float64(x))
    point = {"x": np.float64(x), **{v.name: np.float64(v.numpy()) for v in quantizer.variables}}
    np.testing.assert_allclose(function(**point), quantizer(x), rtol=1e-5, atol=1e-5)

    def slope(name, direction, e=1e-7):
        ahead, behind = ({**point, name: point[name] + sign * e * direction} for sign in (1, -1))
        return np.sum(upstream * (function(**ahead) - function(**behind))) / (2 * e)

    v = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(v)
        y = quantizer(v)
    variables = list(quantizer.trainable_variables)
    dx, *rest = tape.gradient(y, [v, *(w.value for w in variables)], tf.constant(upstream, tf.float32))
    for seed in range(3):
        direction = np.random.default_rng(seed).normal(size=x.shape)
        assert np.sum(dx * direction) == pytest.approx(slope("x", direction), rel=1e-3, abs=1e-3)
    for variable, gradient in zip(variables, rest, strict=True):
        direction = np.ones(variable.shape)
        if variable.name not in scales:
            continue
        expected = slope(variable.name, direction) * scales[variable.name]
        assert np.sum(gradient) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@single
def test_one_bit_less_is_a_quantizer_of_its_own(cls, settings, surrogate):
    if settings["bits"] == min(cls.BITS[cls(**settings).roles[0]]):
        with pytest.raises((ValueError, TypeError), match=f"received {settings['bits'] - 1}"):
            cls(**settings).halved()
        return
    quantizer = ready(cls, settings, values())
    before = [v.numpy() for v in quantizer.variables]
    half = quantizer.halved()
    assert type(half) is cls and half.problem is None
    assert half.get_config() == {**quantizer.get_config(), "bits": settings["bits"] - 1}
    assert not {id(v) for v in half.variables} & {id(v) for v in quantizer.variables}
    for variable, value in zip(quantizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_no_quantizer_stays_no_quantizer_and_other_objects_are_refused():
    assert clone(None) is None
    with pytest.raises(TypeError, match="expected a tfqnas Quantizer or None, received str"):
        clone("lsq")
    with pytest.raises(TypeError, match="received Dense"):
        clone(keras.layers.Dense(1))
