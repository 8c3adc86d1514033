"""LSQ in models of tensorflow-model-optimization, and those models in Keras 3."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from tests import processes
from tfqnas.errors import UnsupportedModelError, UserError
from tfqnas.integrations import tfmot as integration
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, Quantize
from tfqnas.quantizers import LSQ, CalibratedWeights, initializing, integer_range

# What tfmot and tf_keras say of themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*HDF5 file via.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*numpy.*:DeprecationWarning"),
]
annotate = tfmot.quantization.keras.quantize_annotate_layer
L = tf_keras.layers


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(48, 8, 8, 2)).astype(np.float32), (np.arange(48) % 5).astype(np.int32)


def compiled(model):
    model.compile(tf_keras.optimizers.SGD(0.02), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def lsq_model(bits=4):
    tf_keras.utils.set_random_seed(0)
    lsq = integration.lsq
    return tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 2)),
            annotate(L.Conv2D(6, 3, activation="relu", name="conv"), lsq(bits)),
            annotate(L.DepthwiseConv2D(3, name="depthwise"), lsq(bits)),
            L.BatchNormalization(momentum=0.5, name="norm"),
            annotate(L.Activation("swish", name="act"), lsq(bits)),
            L.Flatten(),
            annotate(L.Dense(5, name="classes"), lsq(8)),
        ]
    )


@pytest.fixture(scope="module")
def trained(data):
    """An LSQ model after a few steps, and what it computes."""
    model = compiled(integration.quantize_apply(lsq_model()))
    before = {v.name: v.numpy() for v in model.trainable_variables}
    history = model.fit(*data, batch_size=24, epochs=3, shuffle=False, verbose=0).history["loss"]
    return model, model.predict(data[0], verbose=0), before, history


def variables(model):
    return {v.name.partition(":")[0]: v.numpy() for v in model.variables}


# -- the quantizer ----------------------------------------------------------------------------------------------------


def built(quantizer):
    layer = L.Layer(name="any")
    return quantizer.build((4, 4), "x", layer)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_values_and_both_gradients_are_those_of_lsq(bits, signed, batched, rng):
    x, upstream = (tf.constant(rng.normal(size=(6, 5)), tf.float32) for _ in range(2))
    ours = LSQ(bits, signed=signed)
    ours.build()
    theirs = integration.LSQQuantizer(bits, signed, batched)
    weights = built(theirs)
    for step in (ours.step, weights["step"]):
        step.assign(0.3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        expected = ours(x, batched=batched)
    slopes = tape.gradient(expected, [x, ours.step.value], upstream)
    with tf.GradientTape() as tape:
        tape.watch(x)
        received = theirs(x, True, weights)
    np.testing.assert_array_equal(received, expected)
    for a, b in zip(tape.gradient(received, [x, weights["step"]], upstream), slopes, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("values", ["normal", "relu", "hard_silu", "slightly_negative"])
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("traced", [False, True])
def test_step_and_sign_are_set_as_lsq_sets_them(values, bits, traced, rng):
    x = tf.constant(2 * rng.normal(size=(16, 20)), tf.float32)
    x = {
        "normal": x,
        "relu": tf.nn.relu(x),
        "hard_silu": x * tf.nn.relu6(x + 3) / 6,
        "slightly_negative": tf.maximum(x, -0.01),
    }[values]
    ours = LSQ(bits, signed=None)
    with initializing():
        expected = ours(x, batched=True)
    theirs = integration.LSQQuantizer(bits, None, batched=True)
    weights = built(theirs)
    call = tf.function(lambda x: theirs(x, True, weights)) if traced else (lambda x: theirs(x, True, weights))
    np.testing.assert_allclose(call(x), expected, rtol=1e-5, atol=1e-6)
    assert bool(weights["signed"] > 0.5) is ours.signed
    np.testing.assert_allclose(weights["step"], ours.step, rtol=1e-6)
    call(10 * x)  # a second batch sets nothing
    np.testing.assert_allclose(weights["step"], ours.step, rtol=1e-6)


def test_evaluation_sets_nothing_and_is_nan_until_something_has():
    quantizer = integration.LSQQuantizer(4, signed=True)
    weights = built(quantizer)
    assert np.isnan(quantizer(tf.ones(3), False, weights)).all() and np.isnan(weights["step"])


@pytest.mark.parametrize("bits", [1, 17, 4.0])
def test_other_bit_widths_are_refused(bits):
    with pytest.raises(ValueError, match="bits: expected a whole number from 2 to 16"):
        integration.lsq(bits)


# -- models -----------------------------------------------------------------------------------------------------------


def test_it_trains_its_weights_and_its_steps(trained):
    model, outputs, before, history = trained
    after = {v.name: v.numpy() for v in model.trainable_variables}
    assert sum("_step" in name for name in after) == 5  # of three kernels and two outputs
    assert all(np.isnan(value) for name, value in before.items() if "_step" in name)
    assert all(np.isfinite(value).all() for value in after.values()) and np.isfinite(outputs).all()
    assert history[-1] < history[0]


def test_steps_move_by_their_gradient(trained, data):
    model = trained[0]
    steps = [v for v in model.trainable_variables if "_step" in v.name]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(data[0], training=False) ** 2)
    assert all(abs(float(slope)) > 0 for slope in tape.gradient(loss, steps))


def test_kernels_have_no_more_levels_than_their_bits(trained, data):
    model = trained[0]
    kernel = variables(model)["conv/kernel"]
    step = variables(model)["quant_conv/kernel_step"]
    low, high = integer_range(4, True)
    wrapper = model.get_layer("quant_conv")
    wrapper(tf.constant(data[0]), training=False)
    codes = np.asarray(wrapper.layer.kernel) / step
    np.testing.assert_allclose(codes, np.clip(np.round(kernel / step), low, high), atol=1e-4)


@pytest.mark.parametrize("name", ["saved_model", "model.h5"])
def test_a_saved_model_is_read_again_and_goes_on_training(name, trained, data, tmp_path):
    model, outputs, *_ = trained
    integration.save(model, tmp_path / name)
    again = integration.load(tmp_path / name)
    np.testing.assert_allclose(again.predict(data[0], verbose=0), outputs, atol=1e-6)
    assert np.isfinite(again.fit(*data, epochs=1, verbose=0).history["loss"]).all()
    assert {*variables(again)} >= {"quant_conv/kernel_step", "quant_act/output_step"}


def test_a_saved_model_is_served_without_this_package(trained, data, tmp_path):
    integration.save(trained[0], tmp_path / "saved")
    np.save(tmp_path / "x.npy", data[0])
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "((_, y),) = served(tf.constant(np.load(sys.argv[2]))).items()\n"
        "np.save(sys.argv[3], y)\n"
    )
    paths = [str(tmp_path / name) for name in ("saved", "x.npy", "y.npy")]
    done = processes.run(["-c", code, *paths])
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(paths[2]), trained[1], atol=1e-5)


@pytest.mark.parametrize("name", ["weights", "all.weights.h5", "legacy.h5"])
def test_weights_are_read_into_a_new_model(name, trained, data, tmp_path):
    model, outputs, *_ = trained
    model.save_weights(str(tmp_path / name))
    again = integration.quantize_apply(lsq_model())
    status = again.load_weights(str(tmp_path / name))
    if name == "weights":
        status.expect_partial()  # without the optimizer's
    np.testing.assert_allclose(again.predict(data[0], verbose=0), outputs, atol=1e-6)


def test_a_checkpoint_of_tensorflow_is_restored(trained, data, tmp_path):
    model, outputs, *_ = trained
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    again = integration.quantize_apply(lsq_model())
    tf.train.Checkpoint(model=again).restore(path).expect_partial()
    np.testing.assert_allclose(again.predict(data[0], verbose=0), outputs, atol=1e-6)


def test_a_keras_file_is_refused_since_no_model_of_tfmot_can_be_read_from_one(trained, tmp_path):
    with pytest.raises(UserError, match="model.keras: a .keras file of tfmot's layers cannot be read again"):
        integration.save(trained[0], tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
    model = tf_keras.Sequential([tf_keras.Input((4,)), L.Dense(3)])
    quantized = tfmot.quantization.keras.quantize_model(model)  # nothing of ours in it
    quantized.save(tmp_path / "theirs.keras")
    with pytest.raises(ValueError, match="expected . variables, but received"):
        integration.load(tmp_path / "theirs.keras")


def test_initialize_sets_all_steps_and_touches_nothing_else(data):
    model = integration.quantize_apply(lsq_model())
    before = variables(model)
    integration.initialize(model, data[0])
    after = variables(model)
    assert np.isfinite(model.predict(data[0], verbose=0)).all()
    for name, value in after.items():
        if name.endswith(("_step", "_signed")):
            assert np.isfinite(value)
        else:
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("layer", "arguments", "quantized", "signed"),
    [
        (L.Conv2D(2, 1, activation="relu"), {}, True, False),
        (L.Conv2D(2, 1, activation="relu"), {"signed": True}, True, True),
        (L.Conv2D(2, 1, activation="tanh"), {}, True, None),
        (L.Conv2D(2, 1), {}, False, None),
        (L.Conv2D(2, 1), {"outputs": True}, True, None),
        (L.ReLU(6.0), {}, True, False),
        (L.ReLU(negative_slope=0.1), {}, True, None),
        (L.ReLU(), {"outputs": False}, False, None),
        (L.Dense(2, activation="softmax"), {}, False, None),
        (L.Softmax(), {}, False, None),
        (L.GlobalAveragePooling2D(), {}, True, None),
    ],
)
def test_which_outputs_are_quantized_and_how(layer, arguments, quantized, signed):
    layer.build((None, 4, 4, 2))
    found = integration.lsq(4, output_bits=6, **arguments).get_output_quantizers(layer)
    assert [(q.bits, q.signed, q.batched) for q in found] == ([(6, signed, True)] if quantized else [])


def test_a_config_that_tfmot_drops_is_reported():
    lsq = integration.lsq(4)
    model = tf_keras.Sequential(
        [tf_keras.Input((8, 8, 1)), annotate(L.Conv2D(2, 3, name="lost"), lsq), annotate(L.ReLU(), lsq), L.Flatten()]
    )
    with pytest.raises(UnsupportedModelError, match="layer lost .* drops its config; set activation="):
        integration.quantize_apply(model)


def test_layers_with_several_kernels_are_refused():
    model = tf_keras.Sequential(
        [tf_keras.Input((8, 8, 1)), annotate(L.SeparableConv2D(2, 3, name="two"), integration.lsq())]
    )
    with pytest.raises(UserError, match="layer two .SeparableConv2D.: lsq: expected a layer with one kernel"):
        integration.quantize_apply(model)


# -- to Keras 3 -------------------------------------------------------------------------------------------------------


def residual(size=8, softmax=True):
    """A functional network with a residual addition and a padded, strided depthwise convolution."""
    tf_keras.utils.set_random_seed(1)
    x = images = tf_keras.Input((size, size, 2))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem", kernel_regularizer=tf_keras.regularizers.L2(1e-4))(
        x
    )
    x = short = L.ReLU(6.0, name="stem_relu")(L.BatchNormalization(momentum=0.5, name="stem_norm")(x))
    x = L.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(x)
    x = L.DepthwiseConv2D(2, use_bias=False, name="depthwise")(x)
    x = L.ReLU(6.0, name="depthwise_relu")(L.BatchNormalization(momentum=0.5, name="depthwise_norm")(x))
    x = L.Conv2D(8, 1, use_bias=False, name="project")(x)
    x = L.Add(name="add")([short, L.BatchNormalization(momentum=0.5, name="project_norm")(x)])
    x = L.Dropout(0.1)(L.GlobalAveragePooling2D(name="pool")(x))
    x = L.Dense(5, activation="softmax" if softmax else None, name="classes")(x)
    return tf_keras.Model(images, x, name="residual")


def fitted(model, data):
    model.compile(tf_keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    model.fit(*data, batch_size=16, epochs=2, verbose=0)
    return model


def same(converted, source, x, tolerance=1e-5):
    expected = source.predict(x, verbose=0)
    assert np.ptp(expected, axis=0).max() > 0.01  # the images make a difference
    np.testing.assert_allclose(converted.predict(x, verbose=0), expected, atol=tolerance)


def test_a_model_of_8_bit_qat_computes_the_same_in_keras_3(data, tmp_path):
    source = fitted(tfmot.quantization.keras.quantize_model(residual()), data)
    model = integration.to_keras3(source)
    assert isinstance(model, keras.Model) and model.name == source.name
    kinds = {"stem": QuantConv2D, "depthwise": QuantDepthwiseConv2D, "project": QuantConv2D, "classes": QuantDense}
    assert all(type(model.get_layer(name)) is kind for name, kind in kinds.items())
    same(model, source, data[0])
    # Ranges are those of tfmot, of each channel where it has them.
    found = variables(source)
    quantizer = model.get_layer("stem").weight_quantizer
    assert isinstance(quantizer, CalibratedWeights)
    np.testing.assert_array_equal(quantizer.ends.values, found["quant_stem/kernel_max"])
    stored = model.get_layer("stem_relu_output").quantizer
    np.testing.assert_array_equal(
        [stored.low, stored.high], [found[f"quant_stem_relu/output_{end}"] for end in ("min", "max")]
    )
    assert stored.bits == 8 and model.get_layer("stem").kernel_regularizer is not None
    # It is a Keras 3 model as any other.
    model.save(tmp_path / "model.keras")
    same(keras.saving.load_model(tmp_path / "model.keras"), source, data[0])
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.fit(*data, verbose=0).history["loss"]).all()


def test_a_model_with_lsq_has_its_steps_and_signs_in_keras_3(trained, data):
    source, outputs, *_ = trained
    model = integration.to_keras3(source)
    np.testing.assert_allclose(model.predict(data[0], verbose=0), outputs, atol=1e-5)
    found = variables(source)
    for name, attribute, prefix in (
        ("conv", "weight_quantizer", "conv/kernel"),
        ("depthwise", "weight_quantizer", "depthwise/depthwise_kernel"),
        ("conv_output", "quantizer", "conv/output"),
        ("act_output", "quantizer", "act/output"),
    ):
        quantizer = getattr(model.get_layer(name), attribute)
        assert isinstance(quantizer, LSQ) and quantizer.bits == 4
        assert float(quantizer.step) == found[f"quant_{prefix}_step"]
    assert model.get_layer("conv_output").quantizer.signed is False  # ReLU
    assert model.get_layer("act_output").quantizer.signed == bool(found["quant_act/output_signed"] > 0.5)
    assert isinstance(model.get_layer("conv_output"), Quantize)


@pytest.mark.parametrize("method", ["pruning", "clustering"])
def test_pruned_and_clustered_models_are_taken_without_their_wrappers(method, data):
    source = residual()
    if method == "pruning":
        sparsity = tfmot.sparsity.keras
        schedule = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=1)
        model = sparsity.prune_low_magnitude(source, pruning_schedule=schedule)
        callbacks, strip = [sparsity.UpdatePruningStep()], sparsity.strip_pruning
    else:
        clustering = tfmot.clustering.keras

        def wrap(layer):
            chosen = isinstance(layer, L.Dense) or layer.name in ("stem", "project")
            settings = {"number_of_clusters": 4, "cluster_centroids_init": clustering.CentroidInitialization.LINEAR}
            return clustering.cluster_weights(layer, **settings) if chosen else layer

        model = tf_keras.models.clone_model(source, clone_function=wrap)
        callbacks, strip = [], clustering.strip_clustering
    model.compile(tf_keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    model.fit(*data, batch_size=16, epochs=1, verbose=0, callbacks=callbacks)
    with pytest.raises(UnsupportedModelError, match=f"take its wrapper off by tfmot.*strip_{method} first"):
        integration.to_keras3(model)
    stripped = strip(model)
    converted = integration.to_keras3(stripped)
    same(converted, stripped, data[0])
    kernel = np.asarray(converted.get_layer("project").kernel)
    np.testing.assert_array_equal(kernel, stripped.get_layer("project").kernel)
    assert np.mean(kernel == 0) == 0.5 if method == "pruning" else len(np.unique(kernel)) <= 4


def test_a_sequential_float_model_is_taken(data):
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, strides=2, activation="relu"),
            L.MaxPooling2D(),
            L.Reshape((4,)),
            L.Dense(5, activation="sigmoid"),
        ]
    )
    same(integration.to_keras3(model), model, data[0])


def shared_layer():
    images = tf_keras.Input((8, 8, 2))
    conv = L.Conv2D(2, 3, padding="same", name="twice")
    return tf_keras.Model(images, L.Flatten()(conv(conv(images))))


def test_a_layer_that_is_called_twice_is_one_layer(data):
    model = shared_layer()
    converted = integration.to_keras3(model)
    same(converted, model, data[0])
    assert len(converted.weights) == 2


def of_operation():
    images = tf_keras.Input((8, 8, 2))
    return tf_keras.Model(images, tf.nn.relu(images * 2.0))


def of(*layers):
    return lambda: tf_keras.Sequential([tf_keras.Input((8, 8, 2)), *layers])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_operation, r"layer tf.math.multiply\S* \(TFOpLambda\): expected one of Conv2D, .*, Dropout$"),
        (
            of(L.Dense(2, activation="hard_sigmoid", name="x")),
            r"layer x \(Dense\): activation hard_sigmoid, expected one of linear",
        ),
        (of(L.Conv2DTranspose(2, 3, name="up")), r"layer up \(Conv2DTranspose\): expected one of Conv2D"),
        (of(L.ZeroPadding2D(data_format="channels_first", name="x")), r"layer x .*: data_format channels_first"),
        (of(L.BatchNormalization(axis=1, name="x")), r"layer x .*: axis .*1.*, expected the last one"),
        (lambda: tf_keras.Sequential([L.Dense(2)]), "expected a functional or Sequential model that has been built"),
        (lsq_model, r"layer \S+ \(QuantizeAnnotate\): it is annotated, and not yet quantized"),
        (
            lambda: integration.quantize_apply(lsq_model()),
            r"layer quantize_\S+ \(QuantizeLayer\): quantize_\S+: its range is not set",
        ),
        (
            lambda: integration.quantize_apply(of(L.Flatten(), annotate(L.Dense(2, name="x"), integration.lsq()))()),
            r"layer x \(Dense\): the step size of its kernel is not set",
        ),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "expected a model of tf_keras, received Sequential"),
    ],
)
def test_what_has_no_form_in_keras_3_is_refused_by_name(make, message):
    with pytest.raises(UnsupportedModelError, match=message):
        integration.to_keras3(make())


def test_importing_the_package_loads_neither_tfmot_nor_tf_keras():
    code = (
        "import sys, tfqnas.graph.rewriting, tfqnas.integrations\n"
        "print({'tf_keras', 'tensorflow_model_optimization'} & set(sys.modules))"
    )
    # tfmot leaves a variable behind by which TensorFlow itself would load tf_keras.
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "set()", done.stderr
