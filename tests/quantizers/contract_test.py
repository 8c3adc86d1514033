"""What holds for every quantizer that tfqnas.quantizers defines, with the `CONTRACT` of its own test file."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas.quantizers
from tfqnas.quantizers import ROLES, Quantizer, clone, initializing, integer_range
from tfqnas.quantizers.registry import methods


def contracts():
    """`{class: its Contract}` of the test files beside this one."""
    others = [path.stem for path in sorted(Path(__file__).parent.glob("*_test.py")) if path != Path(__file__)]
    modules = [importlib.import_module(f"tests.quantizers.{name}") for name in others]
    found = [module.CONTRACT for module in modules if hasattr(module, "CONTRACT")]
    return {contract.quantizer: contract for contract in found}


CONTRACTS = contracts()
NESTED = ("prototype", "candidates")
PARAMETERS = [
    pytest.param(
        cls,
        settings,
        surrogate,
        id="-".join([cls.__name__, *(f"{name}={v}" for name, v in settings.items() if name not in NESTED)]),
    )
    for cls, all_settings, surrogate in CONTRACTS.values()
    for settings in all_settings
]
single = pytest.mark.parametrize(
    ("cls", "settings", "surrogate"), [p for p in PARAMETERS if not p.values[0](**p.values[1]).traits.combines]
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


def test_every_quantizer_has_a_contract_in_its_own_test_file():
    defined = {cls for cls in subclasses_in(tfqnas.quantizers, Quantizer) if "fake_quantize" in vars(cls)}
    assert {method.quantizer for method in methods()} <= defined
    missing = {cls.__name__ for cls in defined - set(CONTRACTS)}
    assert not missing, f"give the test of {missing} a CONTRACT (tests/quantizers/contract.py)"


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
    traits = cls(**settings).traits
    assert roles and roles == traits.roles and set(roles) <= set(cls.traits.roles) <= set(ROLES)
    assert all(traits.supports(cls(**settings).bits, role) for role in roles) and not traits.supports(1, roles[0])
    assert not traits.supports(4, "biases")
    for role, argument in (("weights", "weight_quantizer"), ("inputs", "input_quantizer")):
        if role in roles:
            clone(cls(**settings), argument)
        else:
            with pytest.raises(ValueError, match=f"{argument}: expected a .* of {role}, received {cls.__qualname__}"):
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
    if not cls.traits.uniform:
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
    if settings["bits"] == min(getattr(cls.traits, cls(**settings).roles[0])):
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
