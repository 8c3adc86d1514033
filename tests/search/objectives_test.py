import itertools
import pickle

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.cost import count, count_codes
from tfqnas.search import Objectives, model_costs
from tfqnas.search import objectives as module
from tfqnas.search.codes import canonical, sample
from tfqnas.spaces import SearchSpace, Stage

TINY, QFA = spaces.get("tiny"), spaces.get("tiny_qfa")


def tiny(minimised=(), limits=None):
    return Objectives(TINY, model_costs(TINY, 4, 10, 1), minimised, limits or {})


def as_tuples(codes):
    return {tuple(code) for code in codes.tolist()}


# -- Costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "bits"), [(TINY, 4), (TINY, None), (QFA, None)])
def test_costs_of_models_are_counted_in_the_units_of_a_run(rng, space, bits):
    costs = model_costs(space, bits, 10, 1)
    archs = [space.sample(rng) for _ in range(20)]
    codes = np.array([space.encode(arch) for arch in archs])
    columns = {name: cost(codes).tolist() for name, cost in costs.items()}
    for i, arch in enumerate(archs):
        cost = count(space, arch, bits, 10, 1)
        expected = {
            "effective_mflops": cost.effective_flops / 1e6,
            "mmacs": cost.macs / 1e6,
            "mbitops": cost.bitops / 1e6,
            "params": cost.params,
            "kB": cost.weight_bytes / 1e3,
        }
        record = Objectives(space, costs).record(arch)
        assert record == expected == {name: column[i] for name, column in columns.items()}
        assert {name: type(value) for name, value in record.items()} == {n: type(v) for n, v in expected.items()}


def test_bits_of_a_mixed_space_are_those_of_its_codes():
    assert model_costs(QFA)["params"](QFA.encode(QFA.smallest())[None]) == count(QFA, QFA.smallest()).params
    with pytest.raises(ValueError, match="bits: expected None, for architectures of space tiny_qfa have"):
        model_costs(QFA, 4)["params"](QFA.encode(QFA.smallest())[None])


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


def mixed(bits_by):
    """A space of at most some thousands of architectures, with fixed blocks, optional ones and bit widths."""
    stages = (Stage(8, 1, (1,), (3,), (1,)), Stage(8, 2, (1, 2), (3, 5), (2,)))
    widths = {"weight_bits": (2, 4), "input_bits": (4,) if bits_by == "tensor" else (2, 4)}
    return SearchSpace("mixed", (8, 12), 8, stages, 16, bits_by=bits_by, **widths)


@pytest.mark.parametrize("bits_by", ["tensor", "layer", "block", "stage"])
@pytest.mark.parametrize("seed", range(3))
def test_smallest_of_a_mixed_space_is_that_of_all_architectures(bits_by, seed):
    space, rng = mixed(bits_by), np.random.default_rng(seed)
    every = np.unique(canonical(space, np.array(list(itertools.product(*map(range, space.choice_counts))))), axis=0)
    assert len(every) == space.size
    # Blocks and ends cost what a table says, in no order, times what rises with the bit width of each convolution.
    kernels = [i for i, gene in enumerate(space.genes) if gene.kind == "kernel"]
    tables = {i: rng.uniform(0.1, 1, (2, 2)) for i in kernels}
    rising = rng.uniform(0.1, 1, (len(space.convolutions()), 2))

    def cost(codes):
        bits, active, total = space.bits_of_codes(codes), space.active(codes), np.zeros(len(codes))
        for (stage, block, _), widths, factors in zip(space.convolutions(), bits.swapaxes(0, 1), rising, strict=True):
            times = widths @ factors
            if stage in space.searched:
                i = space.gene_index("kernel", stage, block)
                times = times * active[:, i] * tables[i][codes[:, 0], codes[:, i]]
            total += times
        return total

    value, code = Objectives(space, {"ms": cost}).smallest("ms")
    assert value == cost(every).min() == cost(code[None])[0]
    assert tuple(code) in as_tuples(every)


@pytest.mark.parametrize("name", ["effective_mflops", "mmacs", "mbitops", "params", "kB"])
@pytest.mark.parametrize("space", ["tiny_qfa", "mbv3_qfa"])
def test_smallest_of_a_mixed_space_is_found_choice_by_choice(space, name):
    space = spaces.get(space)
    costs, counted = model_costs(space, None, 10, 1), []
    cost = costs[name]
    costs[name] = lambda codes: counted.append(len(codes)) or cost(codes)
    objectives = Objectives(space, costs)
    value, code = objectives.smallest(name)
    # Choice by choice, for each resolution: combinations of all choices would be thousands for each block alone.
    assert sum(counted) < 4 * len(space.resolutions) * sum(space.choice_counts)
    assert value == objectives.record(space.smallest())[name] == objectives.costs[name](code[None])[0]
    if name in ("effective_mflops", "mbitops"):
        assert space.decode(code) == space.smallest()


def test_a_cost_that_knows_no_bits_has_a_smallest_value_in_a_mixed_space(random_cost):
    cost = random_cost(QFA, 0)
    value, code = Objectives(QFA, {"ms": cost}).smallest("ms")
    codes = sample(QFA, np.random.default_rng(0), 20_000)
    assert value == cost(code[None])[0] <= cost(codes).min()


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


def test_narrow_limits_of_174_genes_are_met_by_walks_from_many_sides():
    space, rng = spaces.get("mbv3_qfa"), np.random.default_rng(0)
    assert len(space.genes) == 174
    costs = model_costs(space)
    smallest = Objectives(space, costs).smallest("effective_mflops")[0]
    objectives = Objectives(space, costs, (), {"effective_mflops": 1.5 * smallest})
    assert objectives.excess(sample(space, rng, 2000)).all()
    codes = objectives.feasible(rng, 20)
    assert len(codes) == 20 and not objectives.excess(codes).any()
    # Not all from the smallest: these have next to nothing in common beyond their low costs.
    differences = (codes[:, None] != codes).mean(axis=2)[np.triu_indices(20, 1)]
    assert np.median(differences) > 0.2


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


def test_in_a_space_of_few_architectures_all_are_found(rng):
    space = SearchSpace("few", (8,), 8, (Stage(8, 1, (1,), (3, 5), (2,)),), head_channels=16)
    for limits in ({}, {"mmacs": 1e9}):
        found = Objectives(space, model_costs(space, 4, 10, 1), (), limits).feasible(rng, 20)
        assert sorted(space.decode(code).kernels for code in found) == [(3,), (5,)]
