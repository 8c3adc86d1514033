"""The search loop. It handles architectures and numbers; the caller's functions score models and count costs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

from tfqnas.arch import Arch
from tfqnas.search.objectives import Objectives
from tfqnas.search.pareto import ParetoFront, Result

# Give up after this many requests in a row without a new architecture.
_MAX_REQUESTS_WITHOUT_NEWS = 100


_Kind = TypeVar("_Kind", bound="Searcher")


class Searcher:
    """Proposes architectures. Subclasses implement `ask`, and `tell` if they learn from scores.

    A searcher gets costs when it is constructed; `tell` passes accuracies only.

    Attributes:
        generation: number of architectures to be scored at a time; None leaves it to the caller.
        asynchronous: whether its next proposal may come before the scores of the last one, as in evolution; several
            machines then need not wait for each other.
        needs_cost: whether it needs a cost to minimise beside the error.
    """

    generation: int | None = None
    asynchronous: ClassVar[bool] = False
    needs_cost: ClassVar[bool] = True

    @classmethod
    def of_settings(cls, name: str, objectives: Objectives, settings: Any) -> tuple[Self, int]:
        """`(searcher, the most subnets that it scores)` for the settings of a search.

        By default the searcher gets the objectives and a seed, and the budget is `search_budget`.

        Args:
            name: the registered name by which the searcher was chosen.
            objectives: `Objectives`.
            settings: `SearchConfig`.
        """
        make: Any = cls
        return make(objectives, seed=settings.search_seed), settings.search_budget

    @classmethod
    def reads(cls, name: str) -> tuple[str, ...]:
        """Names of the settings that `of_settings` reads for this registered name, besides `search_seed`.

        On the command line those of other searchers are refused.
        """
        return ("search_budget",)

    def ask(self, n: int) -> list[Arch]:
        """A list of at most `n` `Arch`s to be scored; an empty list ends the search."""
        raise NotImplementedError

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Receives the scores (floats, higher is better) of architectures of the last `ask`, in order.

        Architectures may be missing if a predictor has screened them out.
        """


# Searchers by the name that the setting `search` has for them.
SEARCHERS: dict[str, type[Searcher]] = {}


def register(*names: str) -> Callable[[type[_Kind]], type[_Kind]]:
    """A decorator that makes a `Searcher` known by `names`."""

    def add(kind: type[_Kind]) -> type[_Kind]:
        SEARCHERS.update(dict.fromkeys(names, kind))
        return kind

    return add


class ScoresMany(Protocol):
    """An object that scores several architectures at a time, for `run`.

    `many(archs, front)` yields `(index in archs, accuracy, extras)` in any order, given the front before `archs` were
    proposed.
    """

    def many(self, archs: Sequence[Arch], front: Sequence[Result]) -> Iterable[tuple[int, float, dict[str, Any]]]: ...


# Scores one architecture: returns its accuracy, or a pair of its accuracy and extras.
ScoresOne = Callable[[Arch], float | tuple[float, dict[str, Any]]]


def run(
    searcher: Searcher,
    score: ScoresOne | ScoresMany,
    cost: Callable[[Arch], float | Mapping[str, float]],
    budget: int,
    on_result: Callable[[Result], None] | None = None,
    batch: int | None = None,
    results: Iterable[Result] = (),
    by: str | Sequence[str] | None = None,
    former: Sequence[Result] = (),
) -> ParetoFront:
    """Lets `searcher` propose architectures and `score` score them, until `budget` different ones are scored.

    To resume an interrupted search, run it again with the same arguments, a searcher of the same seed, and the
    `results` so far. Architectures that are proposed again take their known score, so that the search continues as if
    it had never stopped. Results that are not proposed again still count for the front.

    Args:
        searcher: `Searcher`.
        score: function of an `Arch` that returns its accuracy, or a pair of accuracy and a dictionary of extras; or
            `ScoresMany`. An extra "estimated" keeps a result off the front.
        cost: function of an `Arch` that returns a number, or a mapping of names to numbers such as
            `tfqnas.count(...)._asdict()`.
        budget: number of different architectures to propose and score, including known ones.
        on_result: called with every new `Result`, for example to log it.
        batch: number of architectures to ask for at a time; None for the searcher's `generation`, or 16.
        results: `Result`s of an earlier run.
        by: name or names of the costs of the front; None for the first cost (a plain number is named "cost").
        former: `Result`s of other searches without estimates. They are told first, count for the front from the
            beginning, and are part of the budget only if they are proposed again.

    Returns:
        `ParetoFront` of all results. The search ends below the budget if the searcher has no more proposals.

    Raises:
        ValueError: there is no result, or a result has no cost named `by`.
    """
    batch = batch or searcher.generation or 16
    known = {result.arch: result for result in (*former, *results)}
    told: dict[Arch, Result] = {}
    idle = 0
    if former:
        searcher.tell([result.arch for result in former], [result.accuracy for result in former])
    while len(told) < budget and idle < _MAX_REQUESTS_WITHOUT_NEWS:
        archs = searcher.ask(min(batch, budget - len(told)))
        if not archs:
            break
        idle = idle + 1 if told.keys() >= set(archs) else 0
        new = [arch for arch in dict.fromkeys(archs) if arch not in known]
        # The front of the told results is the same in a resumed search; that of all known results would differ.
        for index, accuracy, extra in _scored(score, new, (*former, *told.values()), by):
            known[new[index]] = Result(new[index], accuracy, _costs(cost(new[index])), extra)
            if on_result is not None:
                on_result(known[new[index]])
        told.update((arch, known[arch]) for arch in archs)
        searcher.tell(archs, [known[arch].accuracy for arch in archs])
    if not known:
        raise ValueError(f"nothing was scored: budget {budget}, no earlier results")
    # Results are in the order of proposals, since the first of equal results is on the front.
    return ParetoFront.of({**told, **known}.values(), by)


def _scored(
    score: ScoresOne | ScoresMany, archs: Sequence[Arch], told: Sequence[Result], by: str | Sequence[str] | None
) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Yields (index, accuracy, extras) of `archs`."""
    many = getattr(score, "many", None)
    if archs and many is not None:
        yield from many(archs, ParetoFront.of(told, by).rows if told else [])
        return
    one = cast(ScoresOne, score)
    for index, arch in enumerate(archs):
        accuracy = one(arch)
        yield index, *(accuracy if isinstance(accuracy, tuple) else (accuracy, {}))


def _costs(cost: float | Mapping[str, float]) -> dict[str, float]:
    return dict(cost) if isinstance(cost, Mapping) else {"cost": cost}
