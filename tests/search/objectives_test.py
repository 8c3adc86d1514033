import pickle

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.cost import count, count_codes
from tfqnas.search import Objectives, model_costs
from tfqnas.search import objectives as module
from tfqnas.search.codes import sample

TINY = spaces.get("tiny")


def tiny(minimised=(), limits=None):
    return Objectives(TINY, model_costs(TINY, 4, 10, 1), minimised, limits or {})


def as_tuples(codes):
    return {tuple(code) for code in codes.tolist()}


# -- Costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, None])
def test_costs_of_models_are_counted_in_the_units_of_a_run(rng, bits):
    costs = model_costs(TINY, bits, 10, 1)
    archs = [TINY.sample(rng) for _ in range(20)]
    codes = np.array([TINY.encode(arch) for arch in archs])
    columns = {name: cost(codes).tolist() for name, cost in costs.items()}
    for i, arch in enumerate(archs):
        cost = count(TINY, arch, bits, 10, 1)
        expected = {
            "effective_mflops": cost.effective_flops / 1e6, "mmacs": cost.macs / 1e6, "mbitops": cost.bitops / 1e6,
            "params": cost.params, "kB": cost.weight_bytes / 1e3,
        }  # fmt: skip
        record = Objectives(TINY, costs).record(arch)
        assert record == expected == {name: column[i] for name, column in columns.items()}
        assert {name: type(value) for name, value in record.items()} == {n: type(v) for n, v in expected.items()}


def test_all_costs_of_the_same_codes_are_counted_once(rng, monkeypatch):
    calls = []

    def counting(*arguments):
        calls.append(arguments)
        return count_codes(*arguments)

    monkeypatch.setattr(module, "count_codes", counting)
    costs, codes = model_costs(TINY, 4), sample(TINY, rng, 10)
    for cost in costs.values():
        cost(codes)
    assert len(calls) == 1
    codes[0] = TINY.encode(TINY.largest())  # the same array, not the same codes
    assert costs["params"](codes)[0] == count(TINY, TINY.largest(), 4).params and len(calls) == 2


def test_values_are_the_minimised_costs_in_order(rng):
    codes = sample(TINY, rng, 10)
    objectives = tiny(("kB", "mmacs"))
    values = objectives.values(codes)
    assert values.dtype == np.float64 and values.shape == (10, 2)
    assert (values == np.stack([objectives.costs[name](codes) for name in ("kB", "mmacs")], axis=1)).all()
    assert tiny().values(codes).shape == (10, 0) and objectives.values(codes[:0]).shape == (0, 2)


def test_excess_is_the_sum_of_relative_excesses():
    costs = {"ms": lambda codes: 1.0 + codes[:, 0], "kB": lambda codes: 10 + 2 * codes[:, 1]}
    objectives = Objectives(TINY, costs, (), {"ms": 2.0, "kB": 10})
    codes = np.zeros((4, len(TINY.genes)), np.int32)
    codes[:, 0], codes[:, 1] = (0, 1, 2, 2), (0, 0, 0, 1)
    assert objectives.excess(codes) == pytest.approx([0, 0, 1 / 2, 1 / 2 + 2 / 10])
    assert tiny().excess(codes).tolist() == [0, 0, 0, 0]


def test_objectives_can_be_sent_to_another_process(rng):
    objectives, codes = tiny(("kB",), {"mmacs": 2.0}), sample(TINY, rng, 10)
    copy = pickle.loads(pickle.dumps(objectives))
    assert (copy.values(codes) == objectives.values(codes)).all()
    assert (copy.excess(codes) == objectives.excess(codes)).all()


# -- The smallest value --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_smallest_is_that_of_all_architectures_though_the_table_has_no_order(micro, every_code, random_cost, seed):
    cost = random_cost(micro, seed)
    value, code = Objectives(micro, {"ms": cost}).smallest("ms")
    assert value == cost(every_code).min() == cost(code[None])[0]
    assert tuple(code) in as_tuples(every_code)


@pytest.mark.parametrize("name", ["effective_mflops", "mmacs", "mbitops", "params", "kB"])
def test_smallest_of_what_grows_with_every_choice_is_the_smallest_architecture(name):
    objectives = tiny()
    value, code = objectives.smallest(name)
    assert value == objectives.record(TINY.smallest())[name] and TINY.decode(code) == TINY.smallest()


# -- Limits --------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_known_ones():
    known = "effective_mflops, mmacs, mbitops, params, kB"
    with pytest.raises(ValueError, match=f"objectives: expected some of {known}, received 'joule'"):
        tiny(("kB", "joule"))
    with pytest.raises(ValueError, match=f"limits: expected some of {known}, received 'latency_ms'"):
        tiny((), {"latency_ms": 3})


def test_a_limit_that_cannot_be_met_is_refused_with_the_smallest_value():
    costs = {"effective_mflops": lambda codes: 1.234 + codes[:, 0]}
    with pytest.raises(ValueError) as error:
        Objectives(TINY, costs, (), {"effective_mflops": 0.5})
    assert str(error.value) == (
        "max effective_mflops: expected at least 1.234, the smallest that space tiny reaches, received 0.5"
    )
    with pytest.raises(ValueError, match="received nan"):
        Objectives(TINY, costs, (), {"effective_mflops": float("nan")})


@pytest.mark.parametrize("name", ["effective_mflops", "mmacs", "mbitops", "params", "kB"])
def test_the_smallest_value_of_the_message_can_be_met(name):
    with pytest.raises(ValueError) as error:
        tiny((), {name: 0})
    smallest = float(str(error.value).split("at least ")[1].split(",")[0])
    objectives = tiny((), {name: smallest})
    assert smallest == pytest.approx(objectives.smallest(name)[0], rel=1e-5)
    # In the whole space there are few such architectures.
    codes = objectives.feasible(np.random.default_rng(0), 3)
    assert as_tuples(codes) >= {tuple(TINY.encode(TINY.smallest()))}


def test_limits_that_exclude_each_other_are_named_with_their_smallest_values(micro, rng):
    costs = {"ms": lambda codes: 1 + codes[:, 0], "kB": lambda codes: 2 - codes[:, 0]}
    objectives = Objectives(micro, costs, (), {"ms": 1, "kB": 1.5})
    with pytest.raises(ValueError) as error:
        objectives.feasible(rng, 5)
    assert str(error.value) == (
        "found no architecture of space micro within all limits: ms <= 1 (smallest: 1), kB <= 1.5 (smallest: 1); "
        "each can be met alone"
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_feasible_architectures_are_different_and_within_the_limits(micro, every_code, random_cost, share, seed):
    costs = {"ms": random_cost(micro, seed), "kB": random_cost(micro, seed + 50)}
    limits = {"ms": np.quantile(costs["ms"](every_code), share)}
    objectives = Objectives(micro, costs, (), limits)
    codes = objectives.feasible(np.random.default_rng(seed), 10)
    assert as_tuples(codes) <= as_tuples(every_code) and len(as_tuples(codes)) == len(codes)
    assert not objectives.excess(codes).any()
    assert len(codes) >= 0.8 * min(10, (objectives.excess(every_code) == 0).sum())


def test_two_narrow_limits_are_met_by_walks():
    space, rng = spaces.get("mbv3"), np.random.default_rng(0)
    costs = model_costs(space, 4)
    smallest = {name: Objectives(space, costs).smallest(name)[0] for name in ("mmacs", "kB")}
    objectives = Objectives(space, costs, (), {name: 1.15 * value for name, value in smallest.items()})
    assert objectives.excess(sample(space, rng, 2000)).all()
    codes = objectives.feasible(rng, 5)
    assert len(codes) == 5 and not objectives.excess(codes).any()


def test_without_limits_random_architectures_are_those_of_sampling():
    codes = tiny().feasible(np.random.default_rng(7), 20)
    assert (codes == sample(TINY, np.random.default_rng(7), 20)).all()


def test_what_is_gathered_is_new(micro, every_code, rng):
    objectives, seen = Objectives(micro, model_costs(micro, 4)), {code.tobytes() for code in every_code[:790]}
    codes = objectives.gather(20, lambda number, idle: sample(micro, rng, 50 * number), seen)
    assert as_tuples(codes) == as_tuples(every_code[790:])
    assert seen == {code.tobytes() for code in every_code}


def test_draws_in_vain_grow_until_patience_ends(micro):
    asked = []

    def draw(number, idle):
        asked.append((number, idle))
        return np.empty((0, len(micro.genes)), np.int32)

    objectives = Objectives(micro, model_costs(micro, 4))
    assert len(objectives.gather(5, draw, set(), patience=4)) == 0
    assert asked == [(5, 0), (10, 1), (15, 2), (20, 3)]
