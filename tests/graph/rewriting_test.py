"""Keras models with quantized layers in the place of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas
from tests.graph.models import SHAPE, of_operations, quantized, ready, residual_model
from tests.tflite_export.conftest import images
from tests.tflite_export.models import assert_exact
from tfqnas.errors import UserError
from tfqnas.layers import DepthToSpace, QuantConv2D, QuantDense, QuantDepthwiseConv2D, Quantize
from tfqnas.quantizers import LSQ, Calibrated, quantizers_of


@pytest.fixture(autouse=True)
def same_weights():
    keras.utils.set_random_seed(1)


def test_without_quantizers_it_is_the_same_model():
    model = residual_model()
    copy, x = tfqnas.quantize(model), images(SHAPE)
    np.testing.assert_allclose(copy(x), model(x), atol=1e-6)
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}


def test_with_many_bits_it_computes_nearly_the_same():
    model, x = residual_model(), images(SHAPE)
    many = ready(quantized(model, bits=12, end_bits=None), x)
    assert len(quantizers_of(many)) > 12
    np.testing.assert_allclose(many(x), model(x), atol=0.03)


def test_layers_are_replaced_and_weights_kept():
    model = residual_model()
    result = quantized(model)
    kinds = {QuantConv2D: keras.layers.Conv2D, QuantDense: keras.layers.Dense}
    kinds[QuantDepthwiseConv2D] = keras.layers.DepthwiseConv2D
    assert result.name == model.name
    for layer in model.layers:
        if isinstance(layer, tuple(kinds.values())):
            twin = result.get_layer(layer.name)
            assert kinds[type(twin)] is type(layer)
            np.testing.assert_array_equal(twin.kernel, layer.kernel)
            assert twin.weight_quantizer.problem is None  # set from the weights at once


def test_first_and_last_have_8_bits_and_skipped_ones_none():
    model = quantized(skip=["squeeze", "excite"])
    bits = {layer.name: layer.weight_quantizer.bits for layer in model.layers if hasattr(layer, "weight_quantizer")}
    assert {name for name, b in bits.items() if b == 8} == {"stem", "classifier"}
    assert set(bits.values()) == {4, 8} and "squeeze" not in bits and "excite" not in bits
    assert model.get_layer("stem").input_quantizer is None  # pixels have 8 bits
    assert model.get_layer("classifier").input_quantizer.bits == 8
    assert type(model.get_layer("squeeze")) is keras.layers.Conv2D
    all_alike = quantized(end_bits=None)
    assert all_alike.get_layer("stem").weight_quantizer.bits == 4


def test_a_tensor_of_several_layers_is_quantized_once():
    x = inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    parts = [keras.layers.Conv2D(4, 3, name=f"part{i}")(x) for i in range(3)]
    out = keras.layers.Add()([keras.layers.Add()(parts[:2]), parts[2]])
    out = keras.layers.Conv2D(2, 1, name="head")(out)
    model = ready(quantized(keras.Model(inputs, out)), images(SHAPE))
    (shared,) = [layer for layer in model.layers if isinstance(layer, Quantize)]
    assert shared.quantizer.bits == 4 and shared.quantizer.signed is False
    assert all(model.get_layer(f"part{i}").input_quantizer is None for i in range(3))
    readers = [node.operation.name for node in shared._outbound_nodes]
    assert sorted(readers) == ["part0", "part1", "part2"]
    assert model.get_layer("head").input_quantizer.signed is True  # a sum of what has both signs


def test_the_sign_is_that_of_the_tensor():
    model = ready(quantized(), images(SHAPE))
    signs = {q.path: q.signed for q in quantizers_of(model) if "input" in q.path}
    assert None not in signs.values()
    for name, signed in {"hidden": True, "depthwise": True, "left": False, "classifier": False}.items():
        assert model.get_layer(name).input_quantizer.signed is signed, name


def test_it_trains_by_compile_and_fit_saves_and_loads(tmp_path):
    x = images(SHAPE, n=64)
    labels = (x.mean(axis=(1, 2, 3)) > np.median(x.mean(axis=(1, 2, 3)))).astype(int)
    model = ready(quantized(), x)
    steps = [q.step.numpy() for q in quantizers_of(model)]
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    history = model.fit(x, labels, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert all(q.step.numpy() != step for q, step in zip(quantizers_of(model), steps, strict=True))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras")(x), model(x))


def test_training_without_initialisation_is_refused_with_what_to_do():
    model = quantized()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(RuntimeError, match=r"input_quantizer.*call tfqnas.initialize\(model, images\)"):
        model.fit(images(SHAPE), np.zeros(48), verbose=0)


def test_sequential_models_become_functional_ones():
    layers = [keras.layers.Conv2D(6, 3, activation="relu"), keras.layers.DepthwiseConv2D(3), keras.layers.ReLU(6)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input(SHAPE), *layers])
    x = images(SHAPE)
    result = ready(quantized(model, bits=8), x)
    np.testing.assert_allclose(result(x), model(x), atol=0.05)


def test_super_resolution_models_are_quantized_too():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = DepthToSpace(2)(keras.layers.Conv2D(12, 3, padding="same")(x))
    x = keras.layers.Add()([x, keras.layers.UpSampling2D(2)(inputs)])
    model = keras.Model(inputs, x)
    x = images(SHAPE)
    assert ready(quantized(model, integer_aware=True), x)(x).shape == (48, 24, 24, 3)


class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


class NotAgain(keras.layers.Layer):
    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return self.by * x

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.Conv3D(3, 1, name="deep"), r"layer deep \(Conv3D\): no integer form"),
        (Doubled(name="twice"), r"layer twice \(Doubled\): no integer form"),
        (keras.layers.Activation("selu", name="t"), r"layer t \(Activation\).*activation selu, expected one of"),
        (keras.layers.Lambda(lambda x: 2 * x, name="twice"), r"layer twice \(Lambda\).*known computation"),
        (NotAgain(3, name="three"), r"layer three \(NotAgain\): no integer form"),
        (lambda x: 1.0 / x, r"layer true_divide\S* \(TrueDivide\).*a quotient with a tensor below"),
        (lambda x: keras.ops.sort(x), r"layer sort\S* \(Sort\).*expected layers or one of Abs, "),
        (lambda x: keras.ops.softmax(x, axis=1), r"layer softmax\S* \(Softmax\): .*axis 1, expected the last one"),
        (lambda x: x[1:, :], r"layer get_item\S* \(GetItem\): .*a part of the batch"),
    ],
)
def test_an_unsupported_layer_is_named_with_its_type(layer, message):
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = layer(keras.layers.Reshape((10, 10, 4, 1))(x) if isinstance(layer, keras.layers.Conv3D) else x)
    model = keras.Model(inputs, x)
    with pytest.raises(UserError, match=message):
        quantized(model)


def test_other_models_and_unknown_names_are_refused():
    with pytest.raises(UserError, match="expected a functional or Sequential model that has been built"):
        quantized(keras.Sequential([keras.layers.Dense(3)], name="new"))
    with pytest.raises(ValueError, match="skip: no layer to quantize is called stemm; there are stem, "):
        quantized(skip=["stemm"])


def test_models_for_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu")(x))
    model = quantized(keras.Model(inputs, keras.layers.Dense(4)(x)), integer_aware=True)
    assert ready(model, images(SHAPE))(images((9, 15, 3))).shape == (48, 4)


def nested():
    """The standard transfer recipe: a model in a model, which is called twice, and a new head."""
    base = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Conv2D(4, 3, activation="silu", name="conv")], name="base"
    )
    inputs = {"one": keras.Input(SHAPE, name="one"), "other": keras.Input(SHAPE, name="other")}
    difference = base(inputs["one"]) - base(inputs["other"])
    x = keras.layers.SeparableConv2D(6, 3, name="separable")(keras.layers.RandomFlip()(difference))
    x = keras.layers.Dense(3, "softmax", name="classes")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, {"classes": x, "difference": difference})


def test_models_in_models_become_their_layers_and_keep_what_goes_in_and_out(tmp_path):
    model, x = nested(), {"one": images(SHAPE), "other": images(SHAPE, seed=1)}
    result = quantized(model, bits=12, end_bits=None, integer_aware=True)
    tfqnas.initialize(result, x)
    assert not any(isinstance(layer, keras.Model) for layer in result.layers)
    assert {layer.name for layer in result.layers} >= {"conv", "separable_depthwise", "separable_pointwise", "classes"}
    result.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for name, expected in model(x, training=False).items():
        found = result(x, training=False)[name]
        assert np.abs(found - expected).mean() < 0.02
        np.testing.assert_array_equal(again(x, training=False)[name], found)


def test_end_bits_and_one_name_to_skip():
    assert type(quantized(skip="squeeze").get_layer("squeeze")) is keras.layers.Conv2D
    for wrong in (1, 32, "8", 7.5):
        with pytest.raises(ValueError, match=f"end_bits: expected .* 2 to 16, or None, received {wrong!r}"):
            quantized(end_bits=wrong)


# -- Operations on tensors ---------------------------------------------------------------------------------------


def test_operations_on_tensors_become_layers():
    model, x = of_operations(), images(SHAPE)
    same = tfqnas.quantize(model)
    np.testing.assert_allclose(same(x), model(x), atol=1e-6)
    gates = [la for la in same.layers if getattr(la, "activation", None) is keras.activations.hard_sigmoid]
    assert len(gates) == 3  # two of them written out
    many = ready(quantized(model, bits=12, end_bits=None, integer_aware=True), x)
    np.testing.assert_allclose(many(x), model(x), atol=0.02)


def test_a_written_out_gate_that_is_read_in_between_stays_as_it_is():
    inputs = keras.Input(SHAPE)
    middle = keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 3)(inputs) + 3.0)
    model = keras.Model(inputs, middle * (1 / 6) + middle)
    x = images(SHAPE)
    np.testing.assert_allclose(tfqnas.quantize(model)(x), model(x), atol=1e-6)


@pytest.mark.slow
def test_mobilenet_v3_of_keras_applications():
    settings = {"weights": None, "input_shape": (64, 64, 3), "include_preprocessing": False, "classes": 10}
    model = keras.applications.MobileNetV3Small(**settings)
    x = images((64, 64, 3), n=8)
    np.testing.assert_allclose(tfqnas.quantize(model)(x), model(x), atol=1e-5)
    assert len(quantizers_of(ready(quantized(model, integer_aware=True), x))) > 100


# -- Integer-aware ---------------------------------------------------------------------------------------------


def test_integer_aware_models_have_8_bits_where_integers_are_kept():
    x = images(SHAPE)
    model = ready(quantized(integer_aware=True), x)
    stored = {layer.name: layer for layer in model.layers if isinstance(layer, Quantize) and layer.quantizer.bits == 8}
    assert all(isinstance(layer.quantizer, Calibrated) for layer in stored.values())
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    for layer in sums:  # each tensor that it adds has a grid of its own
        before = [t._keras_history.operation for t in layer.input]
        assert len(set(before)) == 2 and all(isinstance(operation, Quantize) for operation in before)
    gate = model.get_layer("excite").output
    gate = next(node.operation for layer in model.layers for node in layer._inbound_nodes if gate in node.input_tensors)
    assert gate.quantizer.fixed == (0.0, 1.0)
    before = {
        layer.input._keras_history.operation
        for layer in model.layers
        if getattr(layer, "activation", None) is keras.activations.hard_silu
    }
    assert before <= set(stored.values()) and len(before) == 2


def test_its_values_lie_on_the_grids_and_gradients_pass():
    x = images(SHAPE)
    model = ready(quantized(integer_aware=True), x)
    for layer in model.layers:
        if isinstance(layer, Quantize):
            _, scale, zero = layer.quantizer.to_integers(tf.zeros(1))
            y = keras.Model(
                model.input,
                layer.get_output_at(0)
                if hasattr(layer, "get_output_at")
                else layer._inbound_nodes[0].output_tensors[0],
            )(x)
            codes = np.asarray(y) / scale + zero
            np.testing.assert_allclose(codes, np.rint(codes), atol=2e-3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.math.log(model(x, training=True)[:, 0] + 1e-3))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert all(g is not None and np.isfinite(g).all() for g in gradients)
    assert np.abs(gradients[0]).max() > 0


def test_layers_that_are_quantized_already_keep_their_quantizers(tmp_path):
    x = images(SHAPE)
    model = ready(quantized(), x)
    steps = {q.path: q.step.numpy() for q in quantizers_of(model)}
    aware = ready(tfqnas.quantize(model, integer_aware=True), x)
    assert {q.path: q.step.numpy() for q in quantizers_of(aware) if isinstance(q, LSQ)} == steps
    aware.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "m.keras")(x), aware(x))


def test_weights_that_are_not_finite_or_quantized_by_keras_are_refused():
    def model():
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2)])

    broken, quantized_by_keras = model(), model()
    broken.get_layer("hidden").bias.assign([0, np.nan, 0, 0])
    quantized_by_keras.get_layer("hidden").quantize("int8")
    for wrong, message in (
        (broken, "weights that are not finite"),
        (quantized_by_keras, r"quantized by Keras \(int8\)"),
    ):
        with pytest.raises(UserError, match=rf"layer hidden \(Dense\): no integer form: {message}"):
            quantized(wrong)


# -- Dead channels ---------------------------------------------------------------------------------------------


def with_dead_channels(bias):
    """A convolution of which three channels have next to no weights, and a depthwise one with two of them."""
    inputs = keras.Input(SHAPE)
    norms = [keras.layers.BatchNormalization(name=f"norm{i}") for i in range(2)]
    x = keras.layers.ReLU()(norms[0](keras.layers.Conv2D(8, 3, use_bias=bias, name="conv")(inputs)))
    x = norms[1](keras.layers.DepthwiseConv2D(3, use_bias=bias, name="depthwise")(x))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    for name, axis, dead in (("conv", 3, [0, 3, 7]), ("depthwise", 2, [1, 2])):
        kernel = np.array(model.get_layer(name).kernel)
        np.moveaxis(kernel, axis, 0)[dead] *= 1e-12
        model.get_layer(name).kernel.assign(kernel)
    for norm in norms:
        norm.beta.assign(np.linspace(-1, 1, 8))
        norm.moving_mean.assign(np.linspace(-0.2, 0.3, 8))
    return model


@pytest.mark.parametrize("bias", [False, True])
def test_dead_channels_are_silenced_and_counted(bias, capsys):
    model, x = with_dead_channels(bias), images(SHAPE)
    expected = np.asarray(model(x))
    result = ready(quantized(model, bits=8, integer_aware=True), x)
    assert "5 dead channels, whose weights are too small for integers, become zero" in capsys.readouterr().err
    assert np.abs(np.array(model.get_layer("conv").kernel)[..., 0]).max() > 0  # the model itself does not change
    assert np.abs(np.array(result.get_layer("conv").kernel)[..., [0, 3, 7]]).max() == 0
    np.testing.assert_allclose(result(x), expected, atol=0.05 * np.ptp(expected))


def test_the_exporter_silences_dead_channels_too(capsys):
    model, x = with_dead_channels(False), images(SHAPE)
    _, values = assert_exact(model, x)
    assert "5 dead channels, whose weights are too small" in capsys.readouterr().err
    assert np.abs(values - model(x)).max() < 0.03 * np.ptp(model(x))


def test_initialisation_does_not_augment():
    inputs = keras.Input(SHAPE)
    x = keras.layers.RandomBrightness(0.9, value_range=(-1, 1))(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(x)))
    low, high = (
        next(
            q
            for q in quantizers_of(ready(quantized(model, bits=8, integer_aware=True), images(SHAPE)))
            if isinstance(q, Calibrated)
        )
        for _ in range(2)
    )
    assert low.high.numpy() == high.high.numpy()
