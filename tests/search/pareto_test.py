import json

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import ParetoFront, Result

TINY = spaces.get("tiny")


def random_results(seed, different, count=60):
    rng = np.random.default_rng(seed)
    rows = zip(rng.integers(0, different, (count, 3)).tolist(), rng.integers(0, different, count), strict=True)
    return [
        Result(TINY.sample(rng), accuracy / different, dict(zip(("ms", "kB", "mmacs"), costs, strict=True)))
        for costs, accuracy in rows
    ]


def beaten(i, results, by):
    """By the definition: another is at least as good in all, and better in one or earlier."""
    numbers = [(-r.accuracy, *(r.costs[name] for name in by)) for r in results]
    return any(
        all(a <= b for a, b in zip(other, numbers[i], strict=True)) and (other != numbers[i] or j < i)
        for j, other in enumerate(numbers)
    )


@pytest.mark.parametrize("different", [3, 1000])
@pytest.mark.parametrize("by", [("ms",), ("ms", "kB"), ("kB", "ms", "mmacs")])
def test_a_row_stays_if_no_other_is_as_good_in_everything(by, different):
    for seed in range(5):
        results = random_results(seed, different)
        front = ParetoFront.of(results, by)
        expected = [r for i, r in enumerate(results) if not beaten(i, results, by)]
        assert len(front.rows) == len(expected) and all(row in expected for row in front.rows)
        costs = [row.costs[by[0]] for row in front.rows]
        assert costs == sorted(costs)


def test_one_name_alone_and_in_a_tuple_give_the_same_rows():
    results = random_results(0, 10)
    assert ParetoFront.of(results, "ms").rows == ParetoFront.of(results, ("ms",)).rows


@pytest.mark.parametrize("by", ["ms", ("ms", "kB")])
def test_a_front_by_several_costs_survives_json(by):
    front = ParetoFront.of(random_results(0, 1000), by)
    assert len(front.rows) > 1 and front.by == by
    assert ParetoFront.from_json(front.to_json()) == ParetoFront.from_json(json.loads(front.to_json())) == front


def test_a_missing_cost_is_named():
    with pytest.raises(ValueError, match=r"tiny-r.*: no cost 'joule', known are ms, kB, mmacs"):
        ParetoFront.of(random_results(0, 10), ("ms", "joule"))
