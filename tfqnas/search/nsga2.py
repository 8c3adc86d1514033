"""NSGA-II: the front of accuracy and any number of costs, by evolution."""

from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import crossover, mutate
from tfqnas.search.dominance import best_first
from tfqnas.search.evolution import Evolution
from tfqnas.search.objectives import Objectives


class NSGA2(Evolution):
    """NSGA-II (Deb et al., 2002) over the error, 1 - accuracy, and the costs that `objectives` minimises.

    Parents are winners of binary tournaments by front, then by crowding distance. Children take each gene of one
    of two parents, and mutate. What is told is merged with the population and the best `population` stay.
    Architectures beyond the limits are not proposed, and if told stay behind all others (constraint domination).

    Args:
        objectives: `Objectives`.
        population: also how many are judged at a time. 100, as in the paper: 10 to 100 generations of the 1,000 to
            10,000 scores that a search without a predictor can afford. QFA, with a predictor, has 500.
        crossover: probability of each gene to come from the second parent; 0.5 is uniform crossover. QFA: 0.007.
        mutation: probability of each gene to be drawn anew; None: one gene on average, in MobileNetV3's space
            0.024. QFA: 0.02.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument makes no sense.
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
        """Returns children of the population, int32 (count, n)."""
        # The population is in order, best first: of two drawn for a tournament the lower index wins.
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
