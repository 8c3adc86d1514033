"""Ageing evolution finds the most accurate architecture within limits. This file shows how to add a searcher."""

from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import mutate
from tfqnas.search.evolution import Evolution
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import register


@register("ageing")
class AgeingEvolution(Evolution):
    """Regularized evolution (Real et al., 2019, "Regularized Evolution for Image Classifier Architecture Search").

    The population is a queue. A child of the best of `sample` random members enters, and the oldest member leaves,
    however good it is, so that a score that is too high by chance does not stay for ever. `Evolution` keeps the limits.
    The costs that `objectives` minimises are not used.

    Args:
        objectives: `Objectives`.
        population: number of members; 100 in the paper.
        sample: number of members from which a parent is chosen; 25 in the paper.
        mutation: probability that a gene is redrawn; None for one gene on average, as in the paper.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument is out of range.
    """

    needs_cost = False

    def __init__(
        self,
        objectives: Objectives,
        population: int = 100,
        sample: int = 25,
        mutation: float | None = None,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(objectives, population, mutation, seed)
        if not isinstance(sample, int) or sample < 1:
            raise ValueError(f"sample: expected a positive integer, received {sample!r}")
        self.sample = sample
        self._scores = np.empty(0)

    def breed(self, count: int, mutation: float) -> np.ndarray:
        """Mutations of the best member of each sample, int32 (count, n)."""
        samples = self.rng.integers(len(self.codes), size=(count, self.sample))
        best = np.take_along_axis(samples, self._scores[samples].argmax(axis=1)[:, None], axis=1)[:, 0]
        return mutate(self.objectives.space, self.codes[best], self.rng, mutation)

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Appends scored architectures to the queue, except those that exceed the limits."""
        codes, accuracies = self.told(archs), np.asarray(scores, np.float64)
        within = self.objectives.excess(codes) == 0
        self.codes = np.concatenate((self.codes, codes[within]))[-self.population :]
        self._scores = np.concatenate((self._scores, accuracies[within]))[-self.population :]
