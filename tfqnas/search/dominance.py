"""Dominance, crowding and hypervolume for several objectives, all minimised.

A row dominates another row if no value is greater and some value is less. `values` are numbers (n, objectives).
"""

import numpy as np
from numpy.typing import ArrayLike


def non_dominated(values: ArrayLike) -> np.ndarray:
    """Indices of the rows that no other row dominates, sorted by the first column, then the second, and so on.

    Of equal rows the first one stays. The time is O(n) for each row that stays.

    Returns:
        int64 (k,).

    Raises:
        ValueError: `values` are not (n, objectives), or hold NaN.
    """
    values = _checked(values)
    remaining, front = np.lexsort(values.T[::-1]), []
    while len(remaining):
        # In this order no later row can dominate the first, and rows that it dominates are removed.
        first = remaining[0]
        front.append(first)
        remaining = remaining[(values[remaining] < values[first]).any(axis=1)]
    return np.array(front, np.int64)


def non_dominated_ranks(values: ArrayLike) -> np.ndarray:
    """The front of each row: 0 if no row dominates it, 1 if only rows of front 0 do, and so on.

    This is the fast non-dominated sorting of NSGA-II (Deb et al., 2002), on a boolean matrix (n, n).

    Returns:
        int64 (n,).

    Raises:
        ValueError: `values` are not (n, objectives), or hold NaN.
    """
    values = _checked(values)
    no_worse = np.ones((len(values), len(values)), bool)
    for column in values.T:
        no_worse &= column[:, None] <= column
    dominates = no_worse & ~no_worse.T
    ranks, dominators, rank = np.zeros(len(values), np.int64), dominates.sum(axis=0), 0
    while (front := dominators == 0).any():
        ranks[front] = rank
        dominators -= dominates[front].sum(axis=0)
        dominators[front] = -1  # ranked
        rank += 1
    return ranks


def constrained_ranks(values: ArrayLike, excess: ArrayLike) -> np.ndarray:
    """`non_dominated_ranks` of the rows within their limits, followed by the other rows in the order of their excess.

    This is the constraint domination of NSGA-II (Deb et al., 2002, section VI).

    Args:
        values: (n, objectives).
        excess: (n,), 0 for rows that meet all limits, positive for others.

    Returns:
        int64 (n,).
    """
    values, within = _checked(values), np.asarray(excess) <= 0
    ranks = np.empty(len(values), np.int64)
    ranks[within] = non_dominated_ranks(values[within])
    _, behind = np.unique(np.asarray(excess)[~within], return_inverse=True)
    ranks[~within] = behind + ranks[within].max(initial=-1) + 1
    return ranks


def crowding(values: ArrayLike) -> np.ndarray:
    """Crowding distance of the rows of one front (Deb et al., 2002), which is large for rows with distant neighbours.

    It is the sum over the objectives of the distance between the two neighbours as a fraction of the objective's range.

    Returns:
        float64 (n,), infinite at the ends of an objective's range.
    """
    values = _checked(values)
    if len(values) <= 2:
        return np.full(len(values), np.inf)
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    span = ordered[-1] - ordered[0]
    gaps = np.full_like(values, np.inf)
    gaps[1:-1] = (ordered[2:] - ordered[:-2]) / np.where(span > 0, span, 1)
    distances = np.empty_like(values)
    np.put_along_axis(distances, order, np.where(span > 0, gaps, 0), axis=0)
    return distances.sum(axis=1)


def best_first(values: ArrayLike, excess: ArrayLike) -> np.ndarray:
    """int64 (n,): indices of all rows sorted by `constrained_ranks`, within a front by descending `crowding`."""
    values, ranks = _checked(values), constrained_ranks(values, excess)
    distances = np.empty(len(values))
    for rank in np.unique(ranks):
        distances[ranks == rank] = crowding(values[ranks == rank])
    return np.lexsort((-distances, ranks))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume that `points` dominate up to `reference`, a measure of a front's quality; larger is better.

    The result is exact. Two objectives take O(n log n); each further objective takes n times as long, since it divides
    the volume into slabs between neighbouring values.

    Args:
        points: (n, objectives); dominated points and points not below `reference` add nothing.
        reference: (objectives,), such as the worst acceptable value of each objective.

    Returns:
        The volume in the product of the objectives' units.

    Raises:
        ValueError: the shapes do not fit, or a point is NaN.
    """
    points, reference = _checked(points), np.asarray(reference, np.float64)
    if reference.shape != points.shape[1:]:
        raise ValueError(f"reference: expected {points.shape[1]} numbers, received the shape {reference.shape}")
    return float(_volume(points[(points < reference).all(axis=1)], reference))


def _volume(points: np.ndarray, reference: np.ndarray) -> float:
    if len(points) == 0:
        return 0.0
    if len(reference) == 1:
        return reference[0] - points.min()
    if len(reference) == 2:
        x, y = points[np.argsort(points[:, 0])].T
        lowest = np.minimum.accumulate(np.concatenate((reference[1:], y)))
        return ((reference[0] - x) * -np.diff(lowest)).sum()
    points = points[non_dominated(points)]
    widths = np.diff(np.append(points[:, 0], reference[0]))
    return sum(w * _volume(points[: i + 1, 1:], reference[1:]) for i, w in enumerate(widths) if w > 0)


def _checked(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"values: expected the shape (n, objectives), received {values.shape}")
    if np.isnan(values).any():
        raise ValueError("values hold NaN, which has no order")
    return values
