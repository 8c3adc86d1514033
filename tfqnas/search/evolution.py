"""The base of evolutionary searchers: a first generation, then new children within the limits."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import mutate
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import Searcher


class Evolution(Searcher):
    """Proposes random architectures first, then children of the best. Subclasses implement `breed` and `tell`.

    Costs are known before scoring, so no architecture that exceeds a limit is proposed, and none is proposed twice. If
    children are not new, they are mutated more; the search ends when that yields no new ones either.

    `ask` and `tell` need not match: `ask` breeds from whatever was told, and `tell` accepts fewer results than were
    asked for, or results of another search. This serves both generations and asynchronous workers.

    Args:
        objectives: `Objectives`.
        population: number of possible parents, and of random architectures at the beginning. The smallest and the
            largest architecture are among the latter if they are within the limits.
        mutation: probability that a gene is redrawn; None for one gene of a code on average.
        seed: integer or numpy Generator.

    Attributes:
        codes: int32 (m, n), the current parents, which `tell` of a subclass sets.

    Raises:
        ValueError: `population` or `mutation` is out of range.
    """

    asynchronous = True

    @classmethod
    def of_settings(cls, name: str, objectives: Objectives, settings: Any) -> tuple[Self, int]:
        """As `Searcher.of_settings`. The default population is a fifth of the budget, from 10 to 100."""
        budget = settings.search_budget
        size = settings.search_population or min(100, max(10, budget // 5))
        return cls(objectives, population=size, mutation=None, seed=settings.search_seed), budget

    @classmethod
    def reads(cls, name: str) -> tuple[str, ...]:
        return ("search_budget", "search_population")

    def __init__(
        self, objectives: Objectives, population: int, mutation: float | None, seed: int | np.random.Generator
    ) -> None:
        if not isinstance(population, int) or population < 2:
            raise ValueError(f"population: expected an integer from 2 on, received {population!r}")
        mutation = 1 / max(1, int(np.sum(objectives.space.choice_counts > 1))) if mutation is None else mutation
        if not 0 < mutation <= 1:
            raise ValueError(f"mutation: expected a number above 0, up to 1, received {mutation!r}")
        self.objectives, self.population, self.mutation = objectives, population, mutation
        self.rng = np.random.default_rng(seed)
        self.codes = np.empty((0, len(objectives.space.genes)), np.int32)
        self._seen: set[bytes] = set()
        self._asked: dict[Arch, np.ndarray] = {}
        self._first: np.ndarray | None = None
        self._queue = self.codes

    def breed(self, count: int, mutation: float) -> np.ndarray:
        """Children of `self.codes`, int32 (count, n); `mutation` is the probability that a gene is redrawn."""
        raise NotImplementedError

    def ask(self, n: int) -> list[Arch]:
        """Up to `n` new architectures; fewer or none when hardly any are left.

        Raises:
            ValueError: no architecture was found within all limits.
        """
        if self._first is None:
            self._first = self._queue = self._beginning()
        codes, self._queue = self._queue[:n], self._queue[n:]
        children = self.objectives.gather(n - len(codes), self._children, self._seen)
        codes = np.concatenate((codes, children))
        archs = [self.objectives.space.decode(code) for code in codes]
        self._asked.update(zip(archs, codes, strict=True))  # encoding again takes as long as the rest of `tell`
        return archs

    def _beginning(self) -> np.ndarray:
        counts = self.objectives.space.choice_counts
        ends = np.array([np.zeros_like(counts), counts - 1], np.int32)
        some = self.objectives.feasible(self.rng, self.population)
        return self.objectives.gather(self.population, lambda *_: np.concatenate((ends, some)), self._seen, 1)

    def _children(self, count: int, idle: int) -> np.ndarray:
        probability = min(1, self.mutation * (1 + idle))
        if len(self.codes):
            return self.breed(count, probability)
        assert self._first is not None
        parents = self._first[self.rng.integers(len(self._first), size=count)]
        return mutate(self.objectives.space, parents, self.rng, probability)

    def told(self, archs: Sequence[Arch]) -> np.ndarray:
        """int32 (m, n): the codes of scored architectures, which are not proposed again. `tell` calls it."""
        codes = []
        for arch in archs:
            code = self._asked.pop(arch, None)
            if code is None:
                code = self.objectives.space.encode(arch)
                self._seen.add(code.tobytes())
            codes.append(code)
        return np.array(codes, np.int32).reshape(-1, self.codes.shape[1])
