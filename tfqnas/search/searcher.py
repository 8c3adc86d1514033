"""The search loop. It knows architectures and numbers, no model: scores and costs are callables."""

from collections.abc import Mapping

from tfqnas.search.pareto import ParetoFront, Result

# A searcher that has nothing new in so many requests will not have it in the next either.
_MAX_REQUESTS_WITHOUT_NEWS = 100


class Searcher:
    """Proposes architectures. Subclasses write `ask`, and `tell` where they learn from scores."""

    def ask(self, n):
        """Returns a list of at most `n` `Arch`s to be scored; an empty list ends the search."""
        raise NotImplementedError

    def tell(self, archs, scores):
        """Receives the scores (floats, more is better) of the architectures of the last `ask`, in order."""


def run(searcher, score, cost, budget, on_result=None, batch=16, results=(), by=None):
    """Lets `searcher` propose and `score` judge until `budget` different architectures are scored.

    To resume an interrupted search, run it again with the same arguments, a searcher of the same seed and the
    `results` so far: what is proposed again takes its known score, so that the search continues as if it had
    never stopped. Results that are not proposed again are in the front all the same.

    Args:
        searcher: `Searcher`.
        score: Arch -> accuracy, or a pair (accuracy, dict of extras).
        cost: Arch -> number, or a mapping of names to numbers, such as `tfqnas.count(...)._asdict()`.
        budget: number of different architectures to propose and score, known ones included.
        on_result: called with every new `Result`, for a log or to write it to a file.
        batch: number of architectures to ask for at a time.
        results: `Result`s of an earlier run.
        by: name of the cost that the front is made of; by default the first (of a plain number: "cost").

    Returns:
        `ParetoFront` of all results. It ends below the budget if the searcher has nothing more to propose.

    Raises:
        ValueError: there is no result, or a result has no cost named `by`.
    """
    known = {result.arch: result for result in results}
    proposed = set()
    idle = 0
    while len(proposed) < budget and idle < _MAX_REQUESTS_WITHOUT_NEWS:
        archs = searcher.ask(min(batch, budget - len(proposed)))
        if not archs:
            break
        idle = idle + 1 if proposed.issuperset(archs) else 0
        for arch in archs:
            if arch not in known:
                known[arch] = _evaluate(arch, score, cost)
                if on_result is not None:
                    on_result(known[arch])
        proposed.update(archs)
        searcher.tell(archs, [known[arch].accuracy for arch in archs])
    if not known:
        raise ValueError(f"nothing was scored: budget {budget}, no earlier results")
    if by is None:
        by = next(iter(next(iter(known.values())).costs))
    return ParetoFront.of(known.values(), by)


def _evaluate(arch, score, cost):
    accuracy = score(arch)
    accuracy, extra = accuracy if isinstance(accuracy, tuple) else (accuracy, {})
    costs = cost(arch)
    return Result(arch, accuracy, dict(costs) if isinstance(costs, Mapping) else {"cost": costs}, extra)
