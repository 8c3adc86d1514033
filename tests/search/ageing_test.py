import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import AgeingEvolution, Objectives, model_costs, run

TINY = spaces.get("tiny")


@pytest.mark.parametrize(("share", "budget"), [(0.25, 150), (0.5, 200)])  # of 200 and of 400 within the limit
@pytest.mark.parametrize("seed", range(5))
def test_the_best_within_the_limits_is_found_and_nothing_beyond_them_proposed(
    micro, every_code, random_cost, share, budget, seed
):
    cost, score = random_cost(micro, seed), random_cost(micro, seed + 50)
    limit = np.quantile(cost(every_code), share)
    results = []
    run(
        AgeingEvolution(Objectives(micro, {"ms": cost}, (), {"ms": limit}), 20, 5, seed=seed),
        lambda arch: score(micro.encode(arch)[None])[0],
        lambda arch: cost(micro.encode(arch)[None])[0],
        budget,
        results.append,
        batch=10,
    )
    assert max(result.costs["cost"] for result in results) <= limit
    best = score(every_code[cost(every_code) <= limit]).max()
    assert len(results) == budget and max(result.accuracy for result in results) == pytest.approx(best, rel=1e-12)


def searcher_of(limits=None, **settings):
    return AgeingEvolution(Objectives(TINY, model_costs(TINY, 4, 10, 1), (), limits or {}), **settings)


def test_the_oldest_go_however_good_they_are():
    searcher = searcher_of(population=10)
    archs = searcher.ask(10) + searcher.ask(7)
    searcher.tell(archs, [1.0] * 7 + [0.1] * 10)
    assert [TINY.decode(code) for code in searcher.codes] == archs[7:]


def test_children_are_mutants_of_the_best_of_a_sample():
    searcher = searcher_of(population=10, sample=3)
    archs = searcher.ask(10)
    searcher.tell(archs, np.arange(10) / 10)
    children = searcher.breed(20_000, 1e-9)
    shares = [(children == TINY.encode(arch)).all(axis=1).mean() for arch in archs]
    # All three of a sample are among the i + 1 worst, and not among the i worst.
    assert shares == pytest.approx([((i + 1) ** 3 - i**3) / 1000 for i in range(10)], abs=0.02)


def test_what_exceeds_a_limit_has_no_children():
    searcher = searcher_of({"mmacs": 2.0}, population=10)
    searcher.tell([TINY.largest(), TINY.smallest()], [0.9, 0.1])
    assert [TINY.decode(code) for code in searcher.codes] == [TINY.smallest()]


def test_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="sample: expected a positive integer, received 0"):
        searcher_of(sample=0)
