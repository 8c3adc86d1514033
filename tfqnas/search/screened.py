"""A searcher with a predictor before it: of many proposals only the most promising are scored."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.dominance import best_first
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import Searcher

# Proposals at a time, of a searcher that has no generations.
_GENERATION = 50


class AccuracyPredictor(Protocol):
    """What `Screened` asks of a predictor, see there."""

    def fit(self, codes: np.ndarray, accuracies: np.ndarray, counted: np.ndarray) -> Any: ...

    def __call__(self, codes: np.ndarray) -> np.ndarray: ...


class Screened(Searcher):
    """Asks a searcher for `factor` times as much as is wanted and passes on what is predicted to be best.

    Best is, as in NSGA-II, what fewest others dominate in predicted accuracy and the costs that are minimised, and of
    these what is alone. Nothing is ever reported from a prediction: whatever is passed on gets scored.

    Args:
        searcher: `Searcher`. objectives: `Objectives`.
        predictor: has `fit(codes, accuracies, counted)`, with `counted` bool (m,), which accuracies are no estimates;
            and `predictor(codes)` gives accuracies (m,). Such as `tfqnas.scoring.predictor.Predictor`.
        factor: proposals for each that is scored.
        first: scored subnets before the first fit; until then all proposals are passed on.
        growth: fit anew when so many times as many are scored.
        on_fit: called with what `fit` returns.
        estimated: `Arch` -> whether the score that was told last is an estimate; None: none is.
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
        """Returns the best of up to `factor * n` proposals, one of `factor`: at the end of a phase there are fewer."""
        if self.factor == 1 or len(self._codes) < self.first:
            return self.searcher.ask(n)
        self._fit()
        archs = self.searcher.ask(self.factor * n)
        if not archs:
            return []
        n = math.ceil(len(archs) / self.factor)
        codes = np.array([self.objectives.space.encode(arch) for arch in archs])
        values = np.column_stack((-np.asarray(self.predictor(codes), np.float64), self.objectives.values(codes)))
        # In the order of the searcher, which may have put neighbours together.
        return [archs[i] for i in sorted(best_first(values, np.zeros(len(codes)))[:n])]

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Passes the scores on, and keeps them for the predictor."""
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
