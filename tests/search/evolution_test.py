"""What NSGA-II and ageing evolution have in common."""

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import NSGA2, AgeingEvolution, Objectives, model_costs, run

TINY = spaces.get("tiny")
BOTH = pytest.mark.parametrize("kind", [NSGA2, AgeingEvolution])


def tiny(limits=None):
    return Objectives(TINY, model_costs(TINY, 4, 10, 1), ("effective_mflops",), limits or {})


def wide(arch):
    return sum(arch.expands) / 100


@BOTH
def test_nothing_is_proposed_twice_and_a_search_ends_when_nothing_is_left(kind, micro):
    searcher, archs = kind(Objectives(micro, model_costs(micro, 4), ("kB",)), 20), []
    while new := searcher.ask(25):
        archs += new
        searcher.tell(new, [wide(arch) for arch in new])
    assert len(set(archs)) == len(archs) >= 0.99 * micro.size


@BOTH
def test_the_first_generation_has_the_smallest_and_the_largest_within_the_limits(kind):
    first = kind(tiny(), 10).ask(10)
    assert len(set(first)) == 10 and first[:2] == [TINY.smallest(), TINY.largest()]
    limited = kind(tiny({"mmacs": 2.0}), 10).ask(10)
    assert len(set(limited)) == 10 and limited[0] == TINY.smallest() and TINY.largest() not in limited


@BOTH
def test_more_than_the_first_generation_can_be_asked_before_anything_is_told(kind):
    limits = {"mmacs": 1.5 * tiny().smallest("mmacs")[0]}
    archs = kind(tiny(limits), 10).ask(50)
    assert 10 < len(set(archs)) == len(archs) and not tiny(limits).excess(np.array([*map(TINY.encode, archs)])).any()


@BOTH
def test_a_seed_gives_the_same_search(kind):
    def proposed(seed):
        results = []
        run(kind(tiny(), 10, seed=seed), wide, tiny().record, 60, results.append)
        return [result.arch for result in results]

    assert proposed(1) == proposed(1) != proposed(2)


@BOTH
def test_scores_may_be_missing_come_late_and_one_by_one(kind):
    searcher, late, archs = kind(tiny(), 10), [], []
    for i in range(150):
        new = searcher.ask(1)
        archs += new
        if i % 3 == 0:
            searcher.tell(new, [wide(new[0])])
        elif i % 3 == 1:
            late += new  # and the others are never told
        if len(late) == 5:
            searcher.tell(late[::-1], [wide(arch) for arch in late[::-1]])
            late.clear()
        searcher.tell([], [])
    assert len(set(archs)) == 150 and len(searcher.codes) == 10


@BOTH
def test_results_of_another_search_are_parents_and_are_not_proposed(kind):
    searcher, known = kind(tiny(), 10), kind(tiny(), 30, seed=5).ask(30)
    searcher.tell(known, [wide(arch) for arch in known])
    assert len(searcher.codes) == 10
    archs = searcher.ask(200)
    assert not set(archs[10:]) & set(known)  # the first generation is random


@BOTH
def test_an_impossible_pair_of_limits_is_refused_at_the_first_ask(kind, micro):
    costs = {"ms": lambda codes: 1 + codes[:, 0], "kB": lambda codes: 2 - codes[:, 0]}
    with pytest.raises(ValueError, match="found no architecture of space micro within all limits"):
        kind(Objectives(micro, costs, (), {"ms": 1, "kB": 1})).ask(1)


@BOTH
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, "population: expected an integer from 2 on, received 1"),
        ({"mutation": 0}, "mutation: expected a number above 0, up to 1, received 0"),
        ({"mutation": 1.5}, "mutation: expected a number above 0, up to 1, received 1.5"),
    ],
)
def test_wrong_settings_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(tiny(), **settings)
