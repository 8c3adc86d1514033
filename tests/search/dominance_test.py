import itertools

import numpy as np
import pytest

from tfqnas.search import pareto_front
from tfqnas.search.dominance import (
    best_first,
    constrained_ranks,
    crowding,
    hypervolume,
    non_dominated,
    non_dominated_ranks,
)

# Few different values: nearly everything is a tie.
VALUES = pytest.mark.parametrize("different", [3, 1000])
OBJECTIVES = pytest.mark.parametrize("objectives", [1, 2, 3, 4])


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def peeled(count, beats):
    """The ranks by their definition: take away, again and again, what nothing that is left beats."""
    ranks, left = np.full(count, -1), set(range(count))
    for rank in itertools.count():
        if not left:
            return ranks.tolist()
        front = [i for i in left if not any(beats(j, i) for j in left)]
        ranks[front] = rank
        left -= set(front)


@VALUES
@OBJECTIVES
def test_ranks_are_those_of_peeling_fronts(rng, objectives, different):
    for count in (1, 2, 40):
        values = rng.integers(0, different, (count, objectives))
        expected = peeled(count, lambda i, j, v=values: dominates(v[i], v[j]))
        assert non_dominated_ranks(values).tolist() == expected


@VALUES
@OBJECTIVES
def test_the_front_is_rank_0_without_repetitions(rng, objectives, different):
    values = rng.integers(0, different, (80, objectives))
    front = non_dominated(values)
    assert np.unique(values[front], axis=0).tolist() == values[front].tolist()  # in order, none twice
    ranks = non_dominated_ranks(values)
    assert {tuple(v) for v in values[ranks == 0]} == {tuple(v) for v in values[front]}
    for i in front:  # of equal rows the first
        assert (values == values[i]).all(axis=1).argmax() == i


@VALUES
def test_the_front_of_two_objectives_is_that_of_cost_and_accuracy(rng, different):
    costs, accuracies = rng.integers(0, different, (2, 100))
    assert non_dominated(np.stack((costs, -accuracies), axis=1)).tolist() == pareto_front(costs, accuracies).tolist()


@OBJECTIVES
def test_constrained_ranks_are_those_of_constraint_domination(rng, objectives):
    values = rng.integers(0, 10, (40, objectives))
    excess = np.maximum(rng.integers(-4, 5, 40), 0) / 8

    def beats(i, j):
        if excess[i] or excess[j]:
            return excess[i] < excess[j]
        return dominates(values[i], values[j])

    assert constrained_ranks(values, excess).tolist() == peeled(40, beats)
    assert constrained_ranks(values, excess + 1).max() == len(np.unique(excess)) - 1


def test_crowding_is_the_distance_of_the_neighbours():
    values = [[0, 10], [1, 6], [4, 5], [10, 0]]
    # Ranges are 10 and 10: (4 - 0) / 10 + (10 - 5) / 10 and (10 - 1) / 10 + (6 - 0) / 10.
    assert crowding(values).tolist() == [np.inf, pytest.approx(0.9), pytest.approx(1.5), np.inf]
    assert crowding(values[::-1]).tolist() == crowding(values)[::-1].tolist()


def test_crowding_takes_no_notice_of_an_objective_without_range():
    values = np.array([[0, 10, 7], [1, 6, 7], [4, 5, 7], [10, 0, 7]])
    assert crowding(values).tolist() == crowding(values[:, :2]).tolist()
    assert crowding(values[:2]).tolist() == [np.inf] * 2 and crowding(values[:0]).tolist() == []


def test_the_best_come_first_by_front_then_by_distance():
    values = [[4, 5], [0, 10], [11, 11], [1, 6], [10, 0], [1, 1]]
    excess = [0, 0, 0, 0, 0, 0.5]
    assert best_first(values, excess).tolist() == [1, 4, 0, 3, 2, 5]


def inclusion_exclusion(points, reference):
    """Volume of a union of boxes: the sum over all subsets, with alternating sign, of what its boxes share."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            shared = np.maximum(np.subtract(reference, np.max(subset, axis=0)), 0)
            total -= (-1) ** size * np.prod(shared)
    return total


@VALUES
@OBJECTIVES
def test_hypervolume_is_that_of_inclusion_and_exclusion(rng, objectives, different):
    for count in (1, 2, 8):
        points = rng.integers(0, different, (count, objectives)) / different
        reference = rng.uniform(0.5, 1.2, objectives)  # some points are beyond it
        assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(points, reference), abs=1e-12)


@pytest.mark.parametrize(("objectives", "count"), [(2, 500), (3, 100), (4, 30)])
def test_hypervolume_of_many_points_is_that_of_pymoo(rng, objectives, count):
    from pymoo.indicators.hv import HV

    points = rng.dirichlet(np.ones(objectives), count) + rng.uniform(0, 0.1, (count, objectives))
    reference = np.full(objectives, 1.1)
    assert hypervolume(points, reference) == pytest.approx(HV(ref_point=reference)(points), rel=1e-9)


def test_hypervolume_of_nothing_is_0():
    assert hypervolume(np.empty((0, 3)), (1, 1, 1)) == hypervolume([[1, 0, 0]], (1, 1, 1)) == 0


def test_dominated_points_add_nothing(rng):
    points = rng.uniform(0, 1, (30, 3))
    reference = (1, 1, 1)
    assert hypervolume(points, reference) == pytest.approx(hypervolume(points[non_dominated(points)], reference))


@pytest.mark.parametrize("function", [non_dominated, non_dominated_ranks, crowding])
def test_what_has_no_order_is_refused(function):
    with pytest.raises(ValueError, match="NaN"):
        function([[1, np.nan]])
    with pytest.raises(ValueError, match=r"expected the shape \(n, objectives\), received \(2,\)"):
        function([1, 2])


def test_a_reference_of_other_length_is_refused():
    with pytest.raises(ValueError, match=r"reference: expected 2 numbers, received the shape \(3,\)"):
        hypervolume([[1, 2]], (1, 2, 3))
