"""From names to candidates, and what is said of names that are not right."""

import keras
import numpy as np
import pytest

from tfqnas.dqss.candidates import clipping, defaults, mixture_for, prototype, refuse_unsigned, signed_inputs, singles
from tfqnas.dqss.post_training import quantized
from tfqnas.dqss.quantize_settings import PostTrainingSettings, QuantizeSettings, TrainingSettings
from tfqnas.dqss.result import searched_of
from tfqnas.errors import UserError
from tfqnas.quantizers import LSQ, Calibrated, CalibratedWeights, Mixture, deployable, names


def settings(**values):
    return PostTrainingSettings(**values)


def test_names_make_a_mixture_and_one_name_a_quantizer():
    mixed = mixture_for(settings(weights=("lsq", "mse", "mse_per_channel")), "weights")
    assert isinstance(mixed, Mixture) and mixed.strategies == ["lsq", "mse", "mse_per_channel"]
    assert isinstance(mixture_for(settings(inputs=("lsq",)), "inputs"), LSQ)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_defaults_exist_at_every_bit_width(bits):
    assert len(mixture_for(settings(bits=bits), "weights").strategies) >= len(defaults("weights")) - 1
    assert len(mixture_for(settings(bits=bits), "inputs").strategies) == len(defaults("inputs"))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_in_training_the_defaults_are_those_that_no_calibration_fixes(bits):
    found = {role: mixture_for(TrainingSettings(bits=bits), role) for role in ("weights", "inputs")}
    assert found["weights"].strategies == ["lsq", "lsq_plus", "dorefa"]
    assert found["inputs"].strategies == ["lsq", "lsq_plus", "pact"]
    for quantizer in found.values():
        assert not [q for q in quantizer.candidates if isinstance(q, Calibrated | CalibratedWeights)]


def test_the_defaults_are_those_that_were_measured():
    """Their order is that of a mixture's coefficients: another one would change results."""
    assert defaults("weights") == (
        "lsq",
        "lsq_per_channel",
        "lsq_plus",
        "dorefa",
        "mse",
        "mse_per_channel",
        "min_max_per_channel",
    )
    assert defaults("inputs") == ("lsq", "lsq_plus", "pact", "mse", "percentile", "min_max")
    assert clipping(names("inputs")) == ["pact", "apot", "dorefa"]


def test_every_single_strategy_is_known():
    both = ("lsq", "lsq_plus", "dorefa", "dsq", "apot", "min_max", "percentile", "mse", "kl")
    assert singles() == {name: (name, name) for name in both} | {
        "pact": ("dorefa", "pact"),
        "min_max_per_channel": ("min_max_per_channel", "min_max"),
        "mse_per_channel": ("mse_per_channel", "mse"),
        "lsq_per_channel": ("lsq_per_channel", "lsq_plus"),
    }
    for weights, inputs in singles().values():
        assert prototype(weights, 4, "weights").bits == prototype(inputs, 4, "inputs").bits == 4


def test_deployable_ones_are_those_that_integer_models_compute():
    assert deployable("mse_per_channel", 4, "weights") and not deployable("apot", 4, "weights")
    for bits in (4, 8):
        for role in ("weights", "inputs"):
            names = mixture_for(settings(bits=bits, deployable=True), role).strategies
            assert names and all(deployable(name, bits, role) for name in names)


def test_weights_of_deployable_models_fit_int8_with_either_sign(trained):
    model, images, _ = trained
    config = settings(bits=4, weights=("lsq", "lsq_per_channel", "lsq_plus", "mse"), deployable=True)
    found = quantized(model, config, np.float32(images[:4]) / 128 - 1)
    ends = 0
    for layer in (layer for layer in found.layers if getattr(layer, "weight_quantizer", None)):
        for candidate in layer.weight_quantizer.candidates:
            ends += candidate.bits == 8
            lowest = -(2 ** (candidate.bits - 1)) + 1
            assert candidate.qn >= lowest if candidate.bits == 8 else candidate.qn <= lowest
    assert ends == 2 * 4


@pytest.mark.parametrize(
    ("values", "role", "expected"),
    [
        ({"weights": ("lsk",)}, "weights", "weights: expected some of lsq, .* received lsk, did you mean lsq"),
        ({"weights": ("mse_per_chanel",)}, "weights", "did you mean mse_per_channel"),
        ({"inputs": ("mse_per_channel",)}, "inputs", "mse_per_channel: expected role weights, received 'inputs'"),
        ({"weights": ("pact",)}, "weights", "`weights=pact`: pact: expected role inputs, received 'weights'"),
        ({"weights": ("apot",), "bits": 8}, "weights", "`weights=apot`: .*from 3 to 7, received 8"),
        ({"weights": ("apot",), "deployable": True}, "weights", "no integer model computes apot at 4 bits"),
        ({"weights": ("lsq", "lsq")}, "weights", "expected each strategy once, received lsq several times"),
    ],
)
def test_other_names_are_refused(values, role, expected):
    with pytest.raises(UserError, match=expected):
        mixture_for(settings(**values), role)


@pytest.mark.parametrize(
    ("activation", "signed"), [("relu", []), ("linear", ["b"]), ("hard_silu", ["b"]), ("hard_sigmoid", [])]
)
def test_inputs_lie_below_zero_by_what_computes_them(activation, signed):
    layers = keras.layers
    x = images = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="a")(layers.ZeroPadding2D()(x))  # pixels have no quantizer
    x = layers.MaxPooling2D()(layers.Activation(activation)(layers.BatchNormalization()(x)))
    y = layers.Conv2D(4, 1, activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    model = keras.Model(images, layers.Dense(3, name="c")(x))
    expected = signed + ["c"] * bool(signed)  # a sum is signed where one of its tensors is
    assert sorted(signed_inputs(model)) == expected
    for inputs in ((), ("lsq",)):
        refuse_unsigned(settings(inputs=inputs), expected)
    if expected:
        for name in ("pact", "dorefa", "apot"):
            with pytest.raises(UserError, match=f"`inputs`: {name} clips at zero, but the inputs of .*b.* lie below"):
                refuse_unsigned(settings(inputs=("lsq", name)), expected)
        found = quantized(model, settings(), np.zeros((4, 8, 8, 1), np.float32))
        names = {layer: own for layer, role, own in searched_of(found) if role == "inputs"}
        assert set(names) == {"b", "c"} and not any("pact" in own for own in names.values())
        assert len({len(own) for own in names.values()}) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"bits": 1}, "bits: expected a whole number from 2 to 16, received 1"),
        ({"bits": 9, "deployable": True}, "bits: expected at most 8 with `deployable`, .* received 9"),
        ({"end_bits": 16, "deployable": True}, "end_bits: expected at most 8 with `deployable`, .* received 16"),
        ({"loss": "ce"}, "loss: expected one of kl, mse, luma, cosine, features, received ce"),
        ({"temperature_end": 0.0}, "temperature_end: expected a number above 0, received 0"),
        ({"steps": -1}, "steps: expected a whole number from 0 on, received -1"),
        ({"search_share": 1.5}, "search_share: expected a number from 0 to 1, received 1.5"),
        ({"search_share": 0.7}, "search_share: expected a share that leaves steps to train beside `warm_up_share=0.4`"),
        ({"opening": -1.0}, "opening: expected a number from 0 on, received -1"),
        ({"train_steps": 0}, "train_steps: expected a whole number from 1 on, received 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, expected):
    with pytest.raises(UserError, match=expected):
        QuantizeSettings(**values)
    TrainingSettings()
