import collections
import dataclasses
import functools
import json
import math

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.cost import count
from tfqnas.search import ParetoFront, RandomBins, Result, Searcher, kendall_tau, pareto_front, run


def three_deep(space):
    """`space` with up to three blocks a stage, whatever its own depths are tuned to."""
    first, *others = space.stages
    return dataclasses.replace(space, stages=(first, *(dataclasses.replace(s, depths=(1, 2, 3)) for s in others)))


TINY = three_deep(spaces.get("tiny"))


@functools.cache  # searches near the ends of the space meet the same architectures again and again
def macs(arch):
    return count(TINY, arch, num_classes=10, in_channels=1).macs


# -- Pareto --------------------------------------------------------------------------------------------------


def brute_force(costs, accuracies):
    points = list(enumerate(zip(costs, accuracies, strict=True)))

    def dominated(i, c, a):
        return any((d <= c and b >= a and (d < c or b > a)) or ((d, b) == (c, a) and j < i) for j, (d, b) in points)

    return sorted((i for i, (c, a) in points if not dominated(i, c, a)), key=lambda i: costs[i])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("values", [3, 1000])  # 3: nearly everything is a tie
def test_front_equals_brute_force(seed, values):
    rng = np.random.default_rng(seed)
    costs, accuracies = rng.integers(0, values, (2, rng.integers(1, 60)))
    assert pareto_front(costs, accuracies).tolist() == brute_force(costs.tolist(), accuracies.tolist())


def test_front_of_equal_points_is_the_first():
    assert pareto_front([1, 1, 1], [5, 5, 5]).tolist() == [0]


def test_front_of_nothing_is_empty():
    assert pareto_front([], []).tolist() == []


def test_front_refuses_what_has_no_order():
    with pytest.raises(ValueError, match="NaN"):
        pareto_front([1, 2], [1, np.nan])
    with pytest.raises(ValueError, match=r"two lists of one length, received \(2,\) and \(1,\)"):
        pareto_front([1, 2], [1])


def test_front_survives_json():
    rng = np.random.default_rng(0)
    archs = [TINY.sample(rng) for _ in range(30)]
    results = [Result(a, np.float32(rng.random()), {"macs": np.int64(macs(a))}, {"images": 5}) for a in archs]
    front = ParetoFront.of(results, "macs")
    assert 0 < len(front.rows) < 30
    assert ParetoFront.from_json(front.to_json()) == front
    assert ParetoFront.from_json(json.loads(front.to_json())) == front


def test_rows_without_extras_are_read():
    rows = [{"arch": json.loads(TINY.smallest().to_json()), "accuracy": 0.5, "costs": {"macs": 1}}]
    front = ParetoFront.from_json({"by": "macs", "rows": rows})
    assert front.rows == (Result(TINY.smallest(), 0.5, {"macs": 1}, {}),)


def test_front_is_in_ascending_cost():
    results = [Result(TINY.smallest(), accuracy, {"macs": cost}) for cost, accuracy in ((3, 3), (1, 1), (2, 2))]
    front = ParetoFront.of(results, "macs")
    assert [row.costs["macs"] for row in front.rows] == [1, 2, 3]


def test_front_says_what_is_wrong():
    result = Result(TINY.smallest(), 0.5, {"macs": 1})
    with pytest.raises(ValueError, match=r"tiny-r24-.*: no cost 'latency', known are macs"):
        ParetoFront.of([result], "latency")
    with pytest.raises(ValueError, match=r"Pareto front: rows\[0\]: missing field accuracy"):
        ParetoFront.from_json({"by": "macs", "rows": [{"arch": {}, "costs": {}}]})


# -- The loop ------------------------------------------------------------------------------------------------


class Samples(Searcher):
    """Random architectures, and a record of what it is told."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.told = []

    def ask(self, n):
        return [TINY.sample(self.rng) for _ in range(n)]

    def tell(self, archs, scores):
        self.told += zip(archs, scores, strict=True)


class Listed(Searcher):
    """The given architectures."""

    def __init__(self, archs):
        self.archs = list(archs)

    def ask(self, n):
        head, self.archs = self.archs[:n], self.archs[n:]
        return head


def score(arch):
    return sum(arch.kernels) / 100


def test_loop_scores_up_to_the_budget_and_tells():
    searcher, results = Samples(0), []
    front = run(searcher, score, macs, budget=50, on_result=results.append, batch=8)
    assert len(results) == len({r.arch for r in results}) == 50
    assert searcher.told == [(r.arch, r.accuracy) for r in results]
    assert all(r.accuracy == score(r.arch) and r.costs == {"cost": macs(r.arch)} for r in results)
    assert front == ParetoFront.of(results, "cost")


def test_loop_ends_when_the_searcher_does():
    rng = np.random.default_rng(0)
    results = []
    run(Listed(TINY.sample(rng) for _ in range(5)), score, macs, budget=50, on_result=results.append)
    assert len(results) == 5


def test_loop_ends_when_nothing_new_comes():
    class Same(Searcher):
        def ask(self, n):
            return [TINY.smallest()] * n

    results = []
    front = run(Same(), score, macs, budget=50, on_result=results.append)
    assert len(results) == len(front.rows) == 1


def test_interrupted_search_continues_as_if_it_had_not_stopped():
    straight, first, second = [], [], []
    front = run(Samples(3), score, macs, 40, straight.append, batch=7)

    class Stop(Exception):
        pass

    def stop_at_17(result):
        first.append(result)
        if len(first) == 17:
            raise Stop

    with pytest.raises(Stop):
        run(Samples(3), score, macs, 40, stop_at_17, batch=7)
    assert run(Samples(3), score, macs, 40, second.append, batch=7, results=first) == front
    assert first + second == straight


def test_results_of_another_search_are_in_the_front():
    best = Result(TINY.smallest(), 1.0, {"cost": 1})
    new = []
    front = run(Samples(0), score, macs, 10, new.append, results=[best])
    assert front.rows == (best,)
    assert len(new) == 10  # the budget is for what is proposed


def test_of_equal_points_the_first_proposed_is_on_the_front_whoever_was_faster():
    class Processes:
        def __init__(self, order):
            self.order = order

        def many(self, archs, front):
            for i in range(len(archs))[:: self.order]:
                yield i, 0.5, {}

    fronts = [run(Samples(0), Processes(order), lambda arch: 1, 20, batch=10) for order in (1, -1)]
    assert fronts[0] == fronts[1] and fronts[0].rows[0].arch == Samples(0).ask(1)[0]


def test_results_of_other_searches_are_told_first_and_take_no_budget():
    former = [Result(TINY.largest(), 0.9, {"cost": 5}), Result(TINY.smallest(), 0.8, {"cost": 1})]
    fronts, searcher, results = [], Samples(0), []

    class Score:
        def many(self, archs, front):
            fronts.append(front)
            yield from ((i, score(arch), {}) for i, arch in enumerate(archs))

    front = run(searcher, Score(), macs, 10, results.append, former=former)
    assert searcher.told[:2] == [(result.arch, result.accuracy) for result in former]
    assert len(results) == 10 and {row.arch for row in fronts[0]} == {result.arch for result in former}
    assert [row.arch for row in front.rows] == [TINY.smallest(), TINY.largest()]


def test_costs_may_be_several_and_scores_may_bring_extras():
    def costs(arch):
        return count(TINY, arch, 4)._asdict()

    def score_with_extra(arch):
        return score(arch), {"depth": sum(arch.depths)}

    results = []
    front = run(Samples(0), score_with_extra, costs, 30, results.append, by="params")
    assert front == ParetoFront.of(results, "params")
    assert all(row.extra == {"depth": sum(row.arch.depths)} for row in front.rows)
    assert run(Samples(0), score, costs, 30).by == "macs"


def test_loop_without_any_result_is_an_error():
    with pytest.raises(ValueError, match="nothing was scored: budget 0"):
        run(Samples(0), score, macs, 0)


# -- Random bins ---------------------------------------------------------------------------------------------


def bin_counts(archs, edges):
    return np.histogram([macs(arch) for arch in archs], edges)[0].tolist()


def test_bins_are_filled_with_different_architectures():
    edges = [0.7e6, 1e6, 1.5e6, 2.5e6, 4e6]
    archs = RandomBins(TINY, macs, edges, 20, seed=1).ask(1000)
    assert len(archs) == len(set(archs)) == 80
    assert bin_counts(archs, edges) == [20] * 4
    for arch in archs:
        TINY.validate(arch)


def test_bins_over_the_whole_range_reach_its_ends():
    searcher = RandomBins(TINY, macs, 8, 5, seed=1)
    archs = searcher.ask(1000)
    assert searcher.edges[0] == macs(TINY.smallest()) and searcher.edges[-1] == macs(TINY.largest())
    assert bin_counts(archs, searcher.edges) == [5] * 8
    assert TINY.smallest() in archs and TINY.largest() in archs


def test_ends_outside_the_edges_are_left_out():
    archs = RandomBins(TINY, macs, [1e6, 2e6], 20).ask(1000)
    assert TINY.smallest() not in archs and TINY.largest() not in archs


def test_walks_find_bins_that_sampling_does_not():
    largest = macs(TINY.largest())
    edges = [0.97 * largest, 0.98 * largest]
    rng = np.random.default_rng(0)
    assert bin_counts([TINY.sample(rng) for _ in range(5000)], edges) == [0]
    archs = RandomBins(TINY, macs, edges, 5).ask(10)
    assert len(set(archs)) == 5 and bin_counts(archs, edges) == [5]


def test_an_edge_belongs_to_the_upper_bin():
    # Depths are whole numbers from 3 to 9, so that a bin of width 1 holds its lower edge alone.
    def depth(arch):
        return sum(arch.depths)

    archs = RandomBins(TINY, depth, [3, 4, 5, 9], 4).ask(100)
    counts = collections.Counter(depth(arch) for arch in archs)
    assert counts[3] == counts[4] == 4 and sum(counts.values()) == 12
    assert TINY.largest() in archs  # the last bin includes its upper edge


def test_bins_take_turns():
    edges = [0.7e6, 1e6, 1.5e6, 2.5e6, 4e6]
    searcher = RandomBins(TINY, macs, edges, 5)
    for _ in range(5):
        assert bin_counts(searcher.ask(4), edges) == [1] * 4
    assert searcher.ask(4) == []


def test_a_seed_gives_the_same_architectures():
    def draw(seed):
        return RandomBins(TINY, macs, 4, 5, seed).ask(100)

    assert draw(1) == draw(1) == draw(np.random.default_rng(1)) != draw(2)


def test_an_unreachable_bin_is_named_with_the_reachable_range():
    with pytest.raises(ValueError) as error:
        RandomBins(TINY, macs, [1e3, 1e4, 1e6], 2).ask(1)
    assert str(error.value) == (
        "bin 1 of 2, cost 1000 to 10000: found 0 of 2 architectures; "
        f"costs in tiny go from {macs(TINY.smallest()):.6g} to {macs(TINY.largest()):.6g}"
    )


def test_a_bin_with_too_few_architectures_is_an_error():
    largest = macs(TINY.largest())
    with pytest.raises(ValueError, match=r"bin 1 of 1, .*: found 1 of 2 architectures"):
        RandomBins(TINY, macs, [largest, largest + 1], 2).ask(1)


@pytest.mark.parametrize(
    ("edges", "per_bin", "message"),
    [
        ([2, 1], 1, r"edges: expected at least two ascending costs, received \(2.0, 1.0\)"),
        ([1], 1, "edges: expected at least two ascending costs"),
        (0, 1, "edges: expected costs or a positive number of bins, received 0"),
        ([1, 2], 0, "per_bin: expected a positive integer, received 0"),
    ],
)
def test_wrong_bins_are_refused(edges, per_bin, message):
    with pytest.raises(ValueError, match=message):
        RandomBins(TINY, macs, edges, per_bin)


def test_random_bins_in_the_loop():
    front = run(RandomBins(TINY, macs, 4, 5), score, macs, budget=20)
    assert isinstance(front.rows[0].arch, Arch) and front.by == "cost"


def test_kendalls_tau_is_that_of_scipy(rng):
    import scipy.stats

    for _ in range(5):
        a, b = rng.integers(0, 8, 30), rng.integers(0, 8, 30)
        assert kendall_tau(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic)
    assert kendall_tau([1, 2, 3], [5, 6, 9]) == 1 and kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(kendall_tau([1, 2], [3, 3]))
