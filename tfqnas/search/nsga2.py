"""NSGA-II evolves a Pareto front of accuracy and any number of costs."""

from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import crossover, mutate
from tfqnas.search.dominance import best_first
from tfqnas.search.evolution import Evolution
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import register


@register("nsga2")
class NSGA2(Evolution):
    """NSGA-II (Deb et al., 2002) over the error (1 - accuracy) and the costs that `objectives` minimises.

    Parents win binary tournaments by front, then by crowding distance. A child takes each gene from one of two parents
    and mutates. Scored architectures are merged with the population, and the best `population` stay. Architectures that
    exceed the limits are not proposed; if they are told, they rank after all others (constraint domination).

    Args:
        objectives: `Objectives`.
        population: size of the population and of a generation. The default is the paper's 100, which makes 10 to 100
            generations of the 1,000 to 10,000 scores that are affordable without a predictor. QFA, with a predictor,
            has 500.
        crossover: probability that a gene comes from the second parent; 0.5 is uniform crossover. QFA has 0.007.
        mutation: probability that a gene is redrawn; None for one gene on average, 0.024 in MobileNetV3's space. QFA
            has 0.02.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        objectives: Objectives,
        population: int = 100,
        crossover: float = 0.5,
        mutation: float | None = None,
        seed: int | np.random.Generator = 0,
    ) -> None:
        super().__init__(objectives, population, mutation, seed)
        if not 0 <= crossover <= 1:
            raise ValueError(f"crossover: expected a number from 0 to 1, received {crossover!r}")
        self.crossover = crossover
        self.generation = population
        self._values = np.empty((0, 1 + len(objectives.minimised)))

    def breed(self, count: int, mutation: float) -> np.ndarray:
        """Children of the population, int32 (count, n)."""
        # The population is sorted best first, so that the lower of two indices wins a tournament.
        winners = self.rng.integers(len(self.codes), size=(2, 2, count)).min(axis=0)
        first, second = self.codes[winners]
        space = self.objectives.space
        children = crossover(space, first, second, self.rng, self.crossover)
        return mutate(space, children, self.rng, mutation)

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Merges scored architectures into the population."""
        told = self.told(archs)
        values = np.column_stack((1 - np.asarray(scores, np.float64), self.objectives.values(told)))
        codes, values = np.concatenate((self.codes, told)), np.concatenate((self._values, values))
        best = best_first(values, self.objectives.excess(codes))[: self.population]
        self.codes, self._values = codes[best], values[best]
