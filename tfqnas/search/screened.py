"""A searcher with a predictor, which passes on only the most promising of many proposals for scoring."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.dominance import best_first
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import Searcher

# Number of proposals at a time for a searcher without generations.
_GENERATION = 50


class AccuracyPredictor(Protocol):
    """A predictor as `Screened` uses it, such as `tfqnas.scoring.predictor.Predictor`.

    `fit(codes, accuracies, counted)` takes int (m, n), float (m,) and bool (m,), which is False for estimates. Calling
    the predictor with codes returns accuracies (m,).
    """

    def fit(self, codes: np.ndarray, accuracies: np.ndarray, counted: np.ndarray) -> Any: ...

    def __call__(self, codes: np.ndarray) -> np.ndarray: ...


class Screened(Searcher):
    """Asks a searcher for `factor` times the wanted number of proposals and passes on the best by prediction.

    As in NSGA-II, proposals are ranked by front in predicted accuracy and minimised costs, then by crowding distance.
    Results never come from a prediction, since all architectures that are passed on get scored.

    Args:
        searcher: `Searcher`.
        objectives: `Objectives`.
        predictor: `AccuracyPredictor`.
        factor: number of proposals for each one that is scored.
        first: number of scored subnets before the first fit; until then all proposals are passed on.
        growth: the predictor is fitted again when this many times as many subnets are scored.
        on_fit: called with the result of each `fit`.
        estimated: function that says whether the last told score of an `Arch` is an estimate; None if no score is.
    """

    def __init__(
        self,
        searcher: Searcher,
        objectives: Objectives,
        predictor: AccuracyPredictor,
        factor: int = 8,
        first: int = 32,
        growth: float = 1.3,
        on_fit: Callable[[Any], None] | None = None,
        estimated: Callable[[Arch], bool] | None = None,
    ) -> None:
        if not isinstance(factor, int) or factor < 1:
            raise ValueError(f"factor: expected a positive integer, received {factor!r}")
        self.searcher, self.objectives, self.predictor = searcher, objectives, predictor
        self.factor, self.first, self.growth, self.on_fit = factor, first, growth, on_fit
        self.generation = searcher.generation or _GENERATION
        self._estimated = estimated or (lambda arch: False)
        self._codes: list[np.ndarray] = []
        self._scores: list[float] = []
        self._counted: list[bool] = []
        self._fitted = 0

    def ask(self, n: int) -> list[Arch]:
        """The best of up to `factor * n` proposals, one of every `factor`; fewer than `n` at the end of a phase."""
        if self.factor == 1 or len(self._codes) < self.first:
            return self.searcher.ask(n)
        self._fit()
        archs = self.searcher.ask(self.factor * n)
        if not archs:
            return []
        n = math.ceil(len(archs) / self.factor)
        codes = np.array([self.objectives.space.encode(arch) for arch in archs])
        values = np.column_stack((-np.asarray(self.predictor(codes), np.float64), self.objectives.values(codes)))
        # The searcher's order is kept, since it may put neighbours together.
        return [archs[i] for i in sorted(best_first(values, np.zeros(len(codes)))[:n])]

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Passes the scores on to the searcher, and keeps them for the predictor."""
        self._codes += [self.objectives.space.encode(arch) for arch in archs]
        self._scores += scores
        self._counted += [not self._estimated(arch) for arch in archs]
        self.searcher.tell(archs, scores)

    def _fit(self) -> None:
        if len(self._codes) < self.growth * self._fitted:
            return
        self._fitted = len(self._codes)
        quality = self.predictor.fit(np.array(self._codes), np.array(self._scores), np.array(self._counted))
        if self.on_fit is not None:
            self.on_fit(quality)
