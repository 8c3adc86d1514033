"""Ageing evolution: the most accurate architecture within the limits. Short: read it to see how to add a searcher."""

from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import mutate
from tfqnas.search.evolution import Evolution
from tfqnas.search.objectives import Objectives


class AgeingEvolution(Evolution):
    """Regularized evolution (Real et al., 2019, "Regularized Evolution for Image Classifier Architecture Search").

    The population is a queue: the child of the best of `sample` random members comes in, the oldest goes out, be it
    ever so good. So what was scored too well by chance does not stay for ever. Limits are kept by `Evolution`;
    costs that `objectives` minimises play no part.

    Args:
        objectives: `Objectives`.
        population, sample: 100 and 25, as in the paper.
        mutation: probability of each gene to be drawn anew; None: one gene on average, as in the paper.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument makes no sense.
    """

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
        """Returns mutations of the best of each sample, int32 (count, n)."""
        samples = self.rng.integers(len(self.codes), size=(count, self.sample))
        best = np.take_along_axis(samples, self._scores[samples].argmax(axis=1)[:, None], axis=1)[:, 0]
        return mutate(self.objectives.space, self.codes[best], self.rng, mutation)

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Puts scored architectures at the end of the queue; those beyond the limits are no parents."""
        codes, accuracies = self.told(archs), np.asarray(scores, np.float64)
        within = self.objectives.excess(codes) == 0
        self.codes = np.concatenate((self.codes, codes[within]))[-self.population :]
        self._scores = np.concatenate((self._scores, accuracies[within]))[-self.population :]
