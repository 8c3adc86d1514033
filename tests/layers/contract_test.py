"""What holds for every layer. A new one gets a line in `CASES`."""

import importlib
import inspect
import json
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas.layers
from tfqnas.layers import (
    ALL,
    DepthToSpace,
    ElasticBatchNorm,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    ElasticMBConv,
    ElasticSqueezeExcite,
    QuantConv2D,
    QuantConv2DTranspose,
    QuantDense,
    QuantDepthwiseConv2D,
    Quantize,
    ReciprocalRoot,
    ScaleOffset,
)
from tfqnas.quantizers import LSQ, initializing

QUANTIZERS = {"weight_quantizer": LSQ(bits=4), "input_quantizer": LSQ(bits=3, signed=False)}
IMAGE = (4, 6, 6, 8)
MBCONV = {"hidden": 16, "out_channels": 8, "kernel_sizes": (3, 5), "se_channels": 8, "activation": "hswish"}
# For each layer: settings, the shape of its input, sizes that a call may ask for.
CASES = {
    QuantConv2D: [({"filters": 5, "kernel_size": 3, "activation": "hard_silu"}, IMAGE, {})],
    QuantDepthwiseConv2D: [
        ({"kernel_size": 3}, IMAGE, {}),
        ({"kernel_size": 5, "padding": "same", "strides": 2}, IMAGE, {}),
    ],
    QuantConv2DTranspose: [({"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same"}, IMAGE, {})],
    ReciprocalRoot: [({}, IMAGE, {})],
    ScaleOffset: [({}, IMAGE, {}), ({"offset": False}, (4, 8), {})],
    QuantDense: [({"units": 5}, (4, 8), {})],
    DepthToSpace: [({"block_size": 2}, IMAGE, {})],
    ElasticConv2D: [({"filters": 6, "kernel_size": 3, "padding": "same"}, IMAGE, {"filters": 4})],
    ElasticDepthwiseConv2D: [
        ({"kernel_size": 5, "padding": "same", "use_bias": False}, IMAGE, {"kernel_size": 3}),
        (
            {"kernel_size": 5, "padding": "same", "use_bias": False, "kernel_sizes": (3, 5), "kernel_transform": True},
            IMAGE,
            {"kernel_size": 3},
        ),
    ],
    ElasticBatchNorm: [({"epsilon": 1e-3}, IMAGE, {})],
    ElasticSqueezeExcite: [({"squeezed": 4}, IMAGE, {"squeezed": 3})],
    ElasticMBConv: [
        ({**MBCONV, "residual": True}, IMAGE, {"kernel_size": 3, "hidden": 8, "se_channels": 5}),
        ({**MBCONV, "stride": 2, "kernel_transform": True}, IMAGE, {"kernel_size": 3, "hidden": 8, "se_channels": 5}),
    ],
}
SPANS = (3e-3, 5e-4)
# These have a quantizer of their own.
ROUNDING = [pytest.param(Quantize, {"quantizer": LSQ(bits=4)}, IMAGE, {}, id="Quantize")]
FLOAT = [
    pytest.param(cls, *case, id=f"{cls.__name__}-{i}") for cls, cases in CASES.items() for i, case in enumerate(cases)
]
QUANTIZED = [
    pytest.param(cls, {**settings, **QUANTIZERS}, shape, sizes, id=f"{cls.__name__}-{i}-quantized")
    for cls, cases in CASES.items()
    for i, (settings, shape, sizes) in enumerate(cases)
    if cls not in (ElasticBatchNorm, ElasticSqueezeExcite, DepthToSpace, ReciprocalRoot, ScaleOffset)
]
every_layer = pytest.mark.parametrize(("cls", "settings", "shape", "sizes"), FLOAT + QUANTIZED + ROUNDING)


def ready(cls, settings, shape):
    """A layer with random weights and its quantizers set, and an input."""
    rng = np.random.default_rng(3)
    layer = cls(**settings)
    layer.build((None, *shape[1:]))
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) * 0.5 + (variable.name == "gamma"))
    x = tf.constant(rng.normal(size=shape), tf.float32)
    with initializing():
        layer(x)
    return layer, x


def classes_in(package, base):
    """Public subclasses of `base` that the modules of `package` define."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return {
        cls
        for module in modules
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, base) and cls.__module__ == module.__name__ and not name.startswith("_")
    }


def test_all_names_every_layer_that_the_package_defines():
    missing = {cls.__name__ for cls in classes_in(tfqnas.layers, keras.layers.Layer) - set(ALL)}
    assert not missing, f"name {missing} in tfqnas.layers.ALL"
    assert {cls.__name__ for cls in ALL} <= set(tfqnas.layers.__all__)


def test_every_layer_has_its_cases_here():
    missing = {cls.__name__ for cls in set(ALL) - set(CASES) - {Quantize}}
    assert not missing, f"give {missing} a line in CASES of {__file__}"


@every_layer
def test_its_configuration_is_json_and_rebuilds_it(cls, settings, shape, sizes):
    layer = cls(**settings, name="some")
    config = layer.get_config()
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is cls and again is not layer and again.name == "some"
    assert again.get_config() == config
    assert json.loads(json.dumps(keras.saving.serialize_keras_object(again))) == stored
    for name, value in settings.items():
        assert name in config, f"{cls.__name__}.get_config does not hold {name}"
        if not isinstance(value, LSQ | str) and name != "strides":
            assert config[name] == value or config[name] == (value, value), name


@every_layer
def test_a_copy_shares_no_quantizer_and_with_the_same_weights_computes_the_same(cls, settings, shape, sizes):
    layer, x = ready(cls, settings, shape)
    copy = cls.from_config(layer.get_config())
    copy.build((None, *shape[1:]))
    own, others = (getattr(each, "quantizers", []) for each in (layer, copy))
    assert len(own) == len(others) and not {id(q) for q in own} & {id(q) for q in others}
    assert not {id(q) for q in own} & {id(settings.get(role)) for role in QUANTIZERS}
    copy.set_weights(layer.get_weights())
    for asked in ({}, sizes):
        np.testing.assert_array_equal(copy(x, **asked), layer(x, **asked))


@every_layer
def test_a_saved_model_computes_the_same(cls, settings, shape, sizes, tmp_path):
    layer, x = ready(cls, settings, shape)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), layer(x))
    for quantizer in getattr(loaded.layers[0], "quantizers", ()):
        assert quantizer.problem is None


@every_layer
def test_quantizers_are_those_of_its_settings(cls, settings, shape, sizes):
    layer, _ = ready(cls, settings, shape)
    quantizers = getattr(layer, "quantizers", [])
    assert bool(quantizers) == any(isinstance(value, LSQ) for value in settings.values())
    for quantizer in quantizers:
        prototype = settings[quantizer.name]
        assert {**quantizer.get_config(), "name": prototype.name} == prototype.get_config()
        assert [v.path for v in quantizer.variables] == [f"{quantizer.path}/step"]
        assert all(any(v is w for w in layer.trainable_variables) for v in quantizer.variables)


@every_layer
def test_inputs_outputs_and_variables_are_float32_and_of_the_size_that_keras_announces(cls, settings, shape, sizes):
    layer, x = ready(cls, settings, shape)
    assert {v.dtype for v in layer.variables} <= {"float32"}
    y = layer(x)
    assert y.dtype == tf.float32
    announced = layer(keras.Input(shape[1:]))
    assert (None, *y.shape[1:]) == announced.shape and announced.dtype == "float32"
    assert layer(x, **sizes).dtype == tf.float32


@pytest.mark.parametrize(("cls", "settings", "shape", "sizes"), FLOAT)
def test_gradients_are_the_slopes_of_the_float_layer(cls, settings, shape, sizes):
    """Along random directions, for the input and for each variable, with and without smaller sizes."""
    layer, x = ready(cls, settings, shape)
    rng = np.random.default_rng(4)
    weights = rng.normal(size=layer(x).shape)

    def loss(y):  # in float64: what is left of float32's error is that of the layer itself
        return np.sum(np.float64(y) * weights[..., : y.shape[-1]])

    for asked in ({}, sizes):
        variables = list(layer.trainable_variables)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **asked)
        upstream = tf.constant(weights[..., : y.shape[-1]], tf.float32)
        dx, *gradients = tape.gradient(
            y, [x, *(v.value for v in variables)], upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

        def assert_slope(gradient, size, at, name, asked=asked):
            gradient = tf.convert_to_tensor(gradient)
            direction = np.float32(rng.normal(size=size))
            scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction)) + 1
            computed = np.sum(gradient * direction)

            def slopes():  # one that does not cross a kink of the activations will do
                for e in SPANS:
                    ahead, behind = loss(at(e * direction, asked)), loss(at(-e * direction, asked))
                    yield (ahead - behind) / (2 * e)
                    here = loss(at(0 * direction, asked))
                    yield from ((ahead - here) / e, (here - behind) / e)

            assert any(abs(slope - computed) < 2e-3 * scale for slope in slopes()), f"{name} with {asked}"

        assert_slope(dx, x.shape, lambda change, asked: layer(x + change, **asked), "input")
        for variable, gradient in zip(variables, gradients, strict=True):
            value = variable.numpy()

            def at(change, asked, variable=variable, value=value):
                variable.assign(value + change)
                y = layer(x, **asked)
                variable.assign(value)
                return y

            assert_slope(gradient, value.shape, at, variable.path)
