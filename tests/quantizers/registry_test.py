"""Quantizers by name."""

import numpy as np
import pytest

from tfqnas import quantizers
from tfqnas.quantizers import LSQ, ROLES, CalibratedWeights, MinMax, Quantizer, initializing, register
from tfqnas.quantizers.registry import methods

EVERY = [(name, role) for name in quantizers.names() for role in ROLES]
ONLY = {"pact": "inputs", "batch_quant": "inputs"}  # the role of those that have one
ONLY |= {f"{name}_per_channel": "weights" for name in ("lsq", "mse", "percentile", "min_max", "kl")}


@pytest.mark.parametrize(("name", "role"), EVERY)
def test_each_name_is_a_quantizer_for_its_roles_that_knows_its_name(name, role, rng):
    if role != ONLY.get(name, role):
        with pytest.raises(ValueError, match=f"{name}: expected role {ONLY[name]}, received '{role}'"):
            quantizers.get(name, 4, role)
        assert not quantizers.supports(name, 4, role)
        return
    quantizer = quantizers.get(name, bits=4, role=role)
    assert quantizer.bits == 4 and role in quantizer.roles and quantizers.supports(name, 4, role)
    assert quantizers.name_of(quantizer) == name
    assert quantizers.deployable(name, 4, role) == (name != "apot")
    at_8_bits = quantizers.supports(name, 8, role) and (name, role) != ("dorefa", "weights")
    assert quantizers.deployable(name, 8, role) == at_8_bits and not quantizers.deployable(name, 9, role)
    quantizer.build()
    x = np.float32(rng.normal(size=(40, 20)))
    with initializing():
        y = quantizer(x, batched=role == "inputs")
    for values in np.transpose(y) if quantizer.traits.per_channel else [y]:
        assert len(np.unique(np.round(values, 4))) <= 16
    assert np.corrcoef(np.ravel(y), np.ravel(x))[0, 1] > 0.7


def test_settings_reach_the_class():
    assert quantizers.get("mse", 4, "weights", axis=-1).axis == -1
    assert quantizers.get("lsq", 4, "inputs").signed is None and quantizers.get("lsq", 4, "weights").signed
    assert quantizers.get("lsq", 4, "inputs", signed=False).signed is False
    assert quantizers.name_of(MinMax()) == "min_max" and quantizers.name_of(LSQ(3)) == "lsq"
    assert quantizers.name_of(MinMax(axis=-1)) == "min_max_per_channel"
    assert isinstance(quantizers.get("min_max", 4, "weights"), CalibratedWeights)


def test_default_candidates_come_first_in_their_order_and_others_by_name():
    places = [method.place for method in methods("weights")]
    defaults = [place for place in places if place is not None]
    assert defaults == sorted(set(defaults)) and places[: len(defaults)] == defaults
    others = [method.name for method in methods("weights")][len(defaults) :]
    assert others == sorted(others)


def test_a_name_stands_for_one_class():
    class Other(Quantizer):
        pass

    with pytest.raises(ValueError, match="quantizer: lsq of weights is LSQ already"):
        register("lsq")(Other)
    assert type(quantizers.get("lsq", 4, "weights")) is LSQ


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("lsq+", "lsq"),
        ("LSQ", "lsq"),
        ("lsqplus", "lsq_plus"),
        ("dorefa-net", "dorefa"),
        ("minmax", "min_max"),
        ("DSQ", "dsq"),
        ("percentil", "percentile"),
        ("batchquant", "batch_quant"),
        ("Pact", "pact"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_right_one(given, near):
    with pytest.raises(ValueError, match=f"received '.*', did you mean {near}\\?"):
        quantizers.get(given, 4, "inputs")


def test_other_uses_are_refused_with_what_was_expected():
    with pytest.raises(ValueError, match="expected one of lsq, lsq_per_channel, lsq_plus, .*, received 'xyzw'$"):
        quantizers.get("xyzw", 4, "inputs")
    with pytest.raises(ValueError, match="role: expected one of weights, inputs, received 'kernel'"):
        quantizers.get("lsq", 4, "kernel")
    with pytest.raises(ValueError, match="APoT of inputs: bits: expected a whole number from 2 to 6, received 8"):
        quantizers.get("apot", 8, "inputs")
    with pytest.raises(ValueError, match="Calibrated of inputs: bits: .* from 2 to 8, received 16"):
        quantizers.get("mse", 16, "inputs")
    assert not quantizers.supports("apot", 2, "weights") and not quantizers.supports("lsq", 1, "weights")
