"""The search loop. It knows architectures and numbers, no model: scores and costs are callables."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from tfqnas.arch import Arch
from tfqnas.search.pareto import ParetoFront, Result

# A searcher that has nothing new in so many requests will not have it in the next either.
_MAX_REQUESTS_WITHOUT_NEWS = 100


class Searcher:
    """Proposes architectures. Subclasses write `ask`, and `tell` where they learn from scores.

    A searcher knows from its construction what architectures cost; it is told accuracies only.

    Attributes:
        generation: how many architectures it wants judged at a time; None: as many as the caller likes.
    """

    generation: int | None = None

    def ask(self, n: int) -> list[Arch]:
        """Returns a list of at most `n` `Arch`s to be scored; an empty list ends the search."""
        raise NotImplementedError

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Receives the scores (floats, more is better) of architectures of the last `ask`, in order.

        Some or all of those asked for may be missing: a predictor has screened them out, and they get no score.
        """


class ScoresMany(Protocol):
    """What `run` takes as `score` if it scores several architectures at a time, see there."""

    def many(self, archs: Sequence[Arch], front: Sequence[Result]) -> Iterable[tuple[int, float, dict[str, Any]]]: ...


# Of one architecture: its accuracy, or that and extras.
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
    """Lets `searcher` propose and `score` judge until `budget` different architectures are scored.

    To resume an interrupted search, run it again with the same arguments, a searcher of the same seed and the
    `results` so far: what is proposed again takes its known score, so that the search continues as if it had
    never stopped. Results that are not proposed again are in the front all the same.

    Args:
        searcher: `Searcher`.
        score: Arch -> accuracy, or a pair (accuracy, dict of extras); or an object whose `many(archs, front)` yields
            (index in archs, accuracy, extras) as they come, with the front as it stood before these were asked for
            (a list of `Result`). An extra "estimated" keeps a result off the front.
        cost: Arch -> number, or a mapping of names to numbers, such as `tfqnas.count(...)._asdict()`.
        budget: number of different architectures to propose and score, known ones included.
        on_result: called with every new `Result`, for a log or to write it to a file.
        batch: number of architectures to ask for at a time; None: the searcher's `generation`, or 16.
        results: `Result`s of an earlier run.
        by: name of the cost that the front is made of, or several; None: the first (of a plain number: "cost").
        former: `Result`s of other searches, no estimates: told before anything is asked, on the front from the
            beginning, and no part of the budget unless proposed again.

    Returns:
        `ParetoFront` of all results. It ends below the budget if the searcher has nothing more to propose.

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
        # The front of what was told, not of all that is known: it then is the same in a search that was interrupted.
        for index, accuracy, extra in _scored(score, new, (*former, *told.values()), by):
            known[new[index]] = Result(new[index], accuracy, _costs(cost(new[index])), extra)
            if on_result is not None:
                on_result(known[new[index]])
        told.update((arch, known[arch]) for arch in archs)
        searcher.tell(archs, [known[arch].accuracy for arch in archs])
    if not known:
        raise ValueError(f"nothing was scored: budget {budget}, no earlier results")
    # Of equal results the first is on the front: in the order of proposals, not in that of processes.
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
