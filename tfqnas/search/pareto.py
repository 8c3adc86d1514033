"""Pareto fronts: the architectures that no other architecture dominates in cost and accuracy."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from tfqnas.arch import Arch
from tfqnas.records import NotNegative, RecordError, Share, restored
from tfqnas.search.dominance import non_dominated


def pareto_front(costs: ArrayLike, accuracies: ArrayLike) -> np.ndarray:
    """Indices of the points that no other point dominates, in ascending cost.

    A point dominates another if it costs no more and is no less accurate, and is strictly better in one of the two. Of
    equal points the first one stays. The time is O(n log n).

    Args:
        costs: (n,) numbers, less is better.
        accuracies: (n,) numbers, more is better.

    Returns:
        int64 (k,); costs and accuracies both rise strictly along it.

    Raises:
        ValueError: the lengths differ, or a number is NaN.
    """
    costs, accuracies = np.asarray(costs, np.float64), np.asarray(accuracies, np.float64)
    if costs.ndim != 1 or costs.shape != accuracies.shape:
        shapes = f"{costs.shape} and {accuracies.shape}"
        raise ValueError(f"costs and accuracies: expected two lists of one length, received {shapes}")
    if np.isnan(costs).any() or np.isnan(accuracies).any():
        raise ValueError("costs or accuracies hold NaN, which has no order")
    # Points of equal cost are sorted by falling accuracy; lexsort is stable, so equal points keep their order.
    order = np.lexsort((-accuracies, costs))
    if not len(order):
        return order
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(accuracies[order])[:-1]))
    keep = accuracies[order] > best_before
    keep[0] = True  # also if its accuracy is minus infinity
    return order[keep]


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two lists of numbers: 1, the same order; -1, the opposite; ties count for neither.

    Returns:
        float, NaN where one of the lists has a single value.
    """
    from scipy.stats import kendalltau  # takes longer to import than all of search

    return float(kendalltau(first, second).statistic) if len(np.atleast_1d(first)) > 1 else float("nan")


@dataclasses.dataclass(frozen=True)
class Result:
    """A scored architecture.

    Args:
        arch: `Arch`.
        accuracy: the score, more is better. In files it is from 0 to 1.
        costs: dict of names and numbers. In files no number is negative.
        extra: other JSON-able facts about it; "estimated" is true if the accuracy was not counted on all images.
    """

    arch: Arch
    accuracy: Share
    costs: dict[str, NotNegative]
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def estimated(self) -> bool:
        """Whether the accuracy is an estimate, since scoring was given up before all images were seen."""
        return bool(self.extra.get("estimated"))

    def __post_init__(self) -> None:
        # Costs and scores are often numpy numbers, which JSON does not accept.
        costs = {name: v.item() if hasattr(v, "item") else v for name, v in self.costs.items()}
        object.__setattr__(self, "accuracy", float(self.accuracy))
        object.__setattr__(self, "costs", costs)


@dataclasses.dataclass(frozen=True)
class ParetoFront:
    """Results that do not dominate each other, in ascending cost.

    Args:
        rows: tuple of `Result`.
        by: name of the cost of the front, or a tuple of names; the first one gives the order.
    """

    rows: tuple[Result, ...]
    by: str | tuple[str, ...]

    def __post_init__(self) -> None:
        # JSON has no tuples.
        if not isinstance(self.by, str):
            object.__setattr__(self, "by", tuple(self.by))

    @classmethod
    def of(cls, results: Iterable[Result], by: str | Sequence[str] | None) -> Self:
        """The front of `results` in accuracy and one or several costs. Estimated results are left out.

        A result stays if no other result is at least as good in accuracy and all these costs. Of equal results the
        first one stays.

        Args:
            results: `Result`s.
            by: name or names of the costs; None for the first cost of the first result.

        Raises:
            ValueError: a result does not have such a cost.
        """
        results = [result for result in results if not result.estimated]
        if by is None:
            by = next(iter(results[0].costs)) if results else ()
        names = (by,) if isinstance(by, str) else tuple(by)
        for result in results:
            for name in names:
                if name not in result.costs:
                    raise ValueError(f"{result.arch.key}: no cost {name!r}, known are {', '.join(result.costs)}")
        costs, accuracies = [[r.costs[name] for r in results] for name in names], [r.accuracy for r in results]
        if len(names) == 1:
            front = pareto_front(costs[0], accuracies)
        else:
            front = non_dominated(np.column_stack((*costs, np.negative(accuracies))))
        return cls(tuple(results[i] for i in front), by if isinstance(by, str) else tuple(by))

    def to_json(self) -> str:
        """The front as JSON text with one row per line."""
        rows = ",\n  ".join(json.dumps(dataclasses.asdict(row)) for row in self.rows)
        return f'{{"by": {json.dumps(self.by)}, "rows": [\n  {rows}\n]}}\n'

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any], where: str = "Pareto front") -> Self:
        """The front that `to_json` wrote; `source` is the text, or the dictionary parsed from it.

        Raises:
            RecordError: a field is unknown, missing or wrong. `where` begins the message.
        """
        front = restored(source, cls, where)
        for place, row in enumerate(front.rows):
            for name in (front.by,) if isinstance(front.by, str) else front.by:
                if name not in row.costs:
                    raise RecordError(f"{where}: rows[{place}].costs: missing {name}, a cost of this front")
        return front
