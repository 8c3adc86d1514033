"""Mixture: a convex combination of quantizers, one operation a layer, equal to the sum over all pairs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfqnas
from tests.quantizers import calibrated_weights_test, lsq_test
from tests.quantizers.contract import Contract
from tfqnas import quantizers
from tfqnas.dqss import freeze
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.quantizers import LSQ, PACT, ByBits, CalibratedWeights, DoReFa, LSQPlus, Mixture, initializing


def surrogate(quantizer, x):
    """Of LSQ and a calibrated quantizer, what they have is named by no other."""
    (by_lsq, scales), (by_range, _) = (
        test.surrogate(candidate, x)
        for test, candidate in zip((lsq_test, calibrated_weights_test), quantizer.candidates, strict=True)
    )

    def function(x, mixture, temperature, step, high):
        one, other = np.exp(mixture / temperature) / np.exp(mixture / temperature).sum()
        return one * by_lsq(x, step) + other * by_range(x, high)

    return function, {"mixture": 1.0, **scales}


CONTRACT = Contract(
    Mixture,
    [
        {
            "candidates": [
                keras.saving.serialize_keras_object(cls(bits=4, name=name))
                for cls, name in ((LSQ, "0_lsq"), (CalibratedWeights, "1_mse"))
            ],
            "temperature": 0.5,
        }
    ],
    surrogate,
)

# DSQ, APoT and DoReFa of weights are computed by themselves, the others as one.
WEIGHTS = ("lsq", "lsq_plus", "dorefa", "min_max", "dsq", "apot")
INPUTS = ("lsq", "lsq_plus", "pact", "dorefa", "mse", "dsq", "apot")


def mixed_of(names, role, bits=4):
    return Mixture([quantizers.get(name, bits, role) for name in names])


def ready(mixed, x, coefficients=True):
    mixed.build()
    with initializing():
        mixed(x, batched=True)
    if coefficients:
        mixed.alpha.assign(np.random.default_rng(5).normal(size=mixed.alpha.shape))
    return mixed


def images(rng, shape=(4, 6, 6, 3)):
    return np.float32(rng.normal(size=shape) + 0.2)


@pytest.mark.parametrize(("names", "role"), [(WEIGHTS, "weights"), (INPUTS, "inputs"), (INPUTS[:5], "inputs")])
def test_it_is_the_weighted_sum_of_its_candidates(names, role, rng):
    x = images(rng)
    mixed = ready(mixed_of(names, role), x)
    coefficients = mixed.coefficients.numpy()
    assert coefficients.sum() == pytest.approx(1) and (coefficients > 0).all()
    expected = sum(a * np.float64(c(x)) for a, c in zip(coefficients, mixed.candidates, strict=True))
    np.testing.assert_allclose(mixed(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("names", "role"), [(WEIGHTS, "weights"), (INPUTS, "inputs"), (INPUTS[:5], "inputs")])
def test_its_gradients_are_those_of_the_sum_that_automatic_differentiation_gives(names, role, rng):
    x = tf.constant(images(rng))
    mixed = ready(mixed_of(names, role), x)
    mixed.temperature.assign(0.7)
    upstream = tf.constant(rng.normal(size=x.shape), tf.float32)
    variables = [v.value for v in mixed.trainable_variables]

    def by_sum(x):
        parts = zip(tf.unstack(mixed.coefficients), mixed.candidates, strict=True)
        return tf.add_n([a * c(x, batched=True) for a, c in parts])

    found = []
    for function in (lambda x: mixed(x, batched=True), by_sum):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append([y, *tape.gradient(y, [x, *variables], upstream)])
    for name, ours, theirs in zip(["y", "x", *(v.path for v in mixed.trainable_variables)], *found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("place", range(len(INPUTS)))
def test_with_one_coefficient_it_is_that_candidate_to_the_bit_and_so_is_its_frozen_form(place, rng):
    x = images(rng)
    mixed = ready(mixed_of(INPUTS, "inputs"), x, coefficients=False)
    mixed.alpha.assign(1e4 * np.eye(len(INPUTS), dtype=np.float32)[place])
    one = mixed.frozen()
    assert type(one) is type(mixed.candidates[place]) and one is not mixed.candidates[place]
    assert mixed.best == place and one.problem is None
    np.testing.assert_array_equal(mixed(x), one(x))
    np.testing.assert_array_equal(one(x), mixed.frozen(place)(x))


def layers(weights, inputs):
    both = {"weight_quantizer": weights, "input_quantizer": inputs}
    return [
        (QuantConv2D(5, 3, padding="same", strides=2, **both), (4, 9, 9, 6)),
        (QuantConv2D(5, 1, activation="relu", **both), (4, 5, 5, 6)),
        (QuantDepthwiseConv2D(3, padding="same", **both), (4, 7, 7, 6)),
        (QuantDepthwiseConv2D(5, padding="valid", **both), (4, 7, 7, 6)),
        (QuantDense(7, **both), (4, 6)),
    ]


@pytest.mark.parametrize("kind", range(5))
def test_one_operation_a_layer_equals_the_sum_over_all_pairs_of_candidates(kind, rng):
    layer, shape = layers(mixed_of(WEIGHTS, "weights"), mixed_of(INPUTS, "inputs"))[kind]
    x = images(rng, shape)
    with initializing():
        layer(x)
    weights, inputs = layer.weight_quantizer, layer.input_quantizer
    for mixed in (weights, inputs):
        mixed.alpha.assign(rng.normal(size=mixed.alpha.shape))
    plain = {QuantConv2D: keras.layers.Conv2D, QuantDense: keras.layers.Dense}
    config = {k: v for k, v in layer.get_config().items() if k not in ("weight_quantizer", "input_quantizer")}
    operation = plain.get(type(layer), keras.layers.DepthwiseConv2D).from_config({**config, "activation": "linear"})
    operation.build(shape)
    expected = 0.0
    for b, kernel in zip(weights.coefficients.numpy(), weights.candidates, strict=True):
        operation.set_weights([kernel(layer.kernel.value), layer.bias])
        for a, one in zip(inputs.coefficients.numpy(), inputs.candidates, strict=True):
            expected = expected + np.float64(a) * np.float64(b) * np.float64(operation(one(x, batched=True)))
    if "relu" in str(layer.get_config()["activation"]):
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def network():
    x = inputs = keras.Input((12, 12, 3))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, strides=2)(x)))
    x = keras.layers.ReLU(6.0)(keras.layers.DepthwiseConv2D(3, padding="same")(x))
    y = keras.layers.Conv2D(8, 1)(x)
    x = keras.layers.Add()([keras.layers.Conv2D(8, 1)(x), y])  # both read one tensor: a Quantize layer
    return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.fixture
def trained(rng):
    """A network with mixtures after some steps of training."""
    keras.utils.set_random_seed(0)
    model = tfqnas.quantize(network(), mixed_of(WEIGHTS[:5], "weights"), mixed_of(INPUTS[:6], "inputs"))
    x = images(rng, (32, 12, 12, 3))
    tfqnas.initialize(model, x)
    assert not [q.problem for q in quantizers.quantizers_of(model) if q.problem]
    before = [v.numpy().copy() for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, rng.integers(0, 4, 32), batch_size=16, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    moved = [np.any(v.numpy() != b) for v, b in zip(model.trainable_variables, before, strict=True)]
    alphas = [m for m, v in zip(moved, model.trainable_variables, strict=True) if v.name == "mixture"]
    assert all(alphas) and np.mean(moved) > 0.8
    return model, x


def test_a_model_of_mixtures_trains_and_a_saved_one_computes_the_same(trained, tmp_path):
    model, x = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_frozen_it_is_the_plain_model_with_the_outputs_of_the_mixture_at_one_hot_coefficients(trained, tmp_path):
    model, x = trained
    mixtures = [q for q in quantizers.quantizers_of(model) if isinstance(q, Mixture)]
    assert len(mixtures) == 8
    frozen = freeze(model)
    expected = [type(m.candidates[m.best]) for m in mixtures]
    assert [type(q) for q in quantizers.quantizers_of(frozen)] == expected
    for mixed in mixtures:
        mixed.alpha.assign(1e4 * np.eye(len(mixed.candidates), dtype=np.float32)[mixed.best])
    np.testing.assert_array_equal(frozen(x), model(x))
    np.testing.assert_array_equal(freeze(model)(x), model(x))
    first = freeze(model, best=lambda mixed: 0)
    assert {type(q) for q in quantizers.quantizers_of(first)} == {LSQ}
    frozen.save(tmp_path / "frozen.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "frozen.keras")(x), frozen(x))


def test_the_temperature_is_a_variable_that_sharpens_the_coefficients_without_another_trace(rng):
    x = images(rng)
    mixed = ready(mixed_of(INPUTS[:4], "inputs"), x)
    traces = []

    @tf.function(autograph=False)
    def run():
        traces.append(1)
        return mixed(x), mixed.coefficients

    run()
    mixed.temperature.assign(1e-3)
    y, coefficients = run()
    assert len(traces) == 1 and coefficients.numpy().max() == 1
    np.testing.assert_array_equal(y, mixed.frozen()(x))


def test_gradients_keep_nothing_of_its_size_but_the_tensor(rng):
    """Else the memory of training would grow with the number of candidates."""
    x = images(rng, (2, 8, 8, 3))
    mixed = ready(mixed_of(INPUTS[:5], "inputs"), x)

    @tf.function(autograph=False)
    def step(x, upstream):
        y = mixed(x, batched=True)
        return y, *tf.gradients(y, x, upstream)

    graph = step.get_concrete_function(*[tf.TensorSpec(x.shape)] * 2).graph
    behind, kept = {graph.inputs[1].op.name}, set()  # operations that depend on the upstream gradient
    for op in graph.get_operations():
        if behind & {t.op.name for t in op.inputs} | behind & {c.name for c in op.control_inputs}:
            behind.add(op.name)
            kept |= {t.op.name for t in op.inputs if t.shape == x.shape}
    assert kept - behind == {graph.inputs[0].op.name}


def test_at_another_bit_width_it_has_the_candidates_that_exist_there():
    mixed = mixed_of(("lsq", "apot", "dorefa"), "weights")
    eight = mixed.with_bits(8)
    assert isinstance(eight, LSQ) and eight.bits == 8  # DoReFa has no int8 form of 8 bits
    eight = mixed_of(("lsq", "apot", "dorefa"), "inputs").with_bits(8)
    assert eight.strategies == ["lsq", "dorefa"] and eight.bits == 8
    assert mixed_of(("lsq", "mse", "dorefa"), "weights").with_bits(16).strategies == ["lsq", "mse", "dorefa"]
    assert isinstance(mixed_of(("lsq", "apot"), "weights").with_bits(8), LSQ)
    with pytest.raises(ValueError, match="none of apot, apot exists at 8 bits"):
        mixed_of(("apot", "apot"), "weights").with_bits(8)


def test_it_has_no_integers_and_says_what_has():
    mixed = mixed_of(("lsq", "mse"), "weights")
    with pytest.raises(TypeError, match=r"tfqnas.dqss.freeze\(model\)"):
        mixed.to_integers(np.ones(3, np.float32))
    with pytest.raises(TypeError, match="freeze"):
        mixed.halved()


def test_in_a_trace_before_its_initialisation_it_says_what_to_call(rng):
    mixed = mixed_of(("lsq", "pact"), "inputs")
    mixed.build()
    with pytest.raises(RuntimeError, match="call tfqnas.initialize"):
        tf.function(mixed)(images(rng))
    assert mixed.problem.startswith("candidate lsq: ")


def test_other_candidates_are_refused():
    with pytest.raises(ValueError, match="at least two quantizers, received 1"):
        Mixture([LSQ(4)])
    with pytest.raises(ValueError, match="expected one bit width, received lsq 4, lsq 3"):
        Mixture([LSQ(4), LSQ(3)])
    with pytest.raises(ValueError, match="a role that all of them have, received pact of inputs, dorefa of weights"):
        Mixture([PACT(4), DoReFa(4, "weights")])
    with pytest.raises(ValueError, match="expected single methods, received ByBits"):
        Mixture([LSQ(4), ByBits(LSQ(4))])
    with pytest.raises(ValueError, match="temperature: expected a number above 0, received 0"):
        Mixture([LSQ(4), LSQPlus(4)], temperature=0)
    with pytest.raises(ValueError, match="weight_quantizer: expected a quantizer of weights, received Mixture of "):
        QuantDense(3, weight_quantizer=mixed_of(("lsq", "pact"), "inputs"))


def test_files_know_it_by_its_first_name():
    config = keras.saving.serialize_keras_object(mixed_of(("lsq", "mse"), "weights"))
    assert config["class_name"] == "Mixed" and config["registered_name"] == "tfqnas>Mixed"
    loaded = keras.saving.deserialize_keras_object({**config, "module": "tfqnas.quantizers.mixed"})
    assert type(loaded) is Mixture
