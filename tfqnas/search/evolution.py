"""What evolutionary searchers share: a first generation, children that are new and within the limits."""

from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import mutate
from tfqnas.search.objectives import Objectives
from tfqnas.search.searcher import Searcher


class Evolution(Searcher):
    """Random architectures first, then children of the best. Subclasses write `breed`, and keep `codes` in `tell`.

    Costs are known before anything is scored: what exceeds a limit is never proposed. Nor is anything twice. A
    search ends when children, mutated more and more, and no more of them, are new.

    What is asked and told need not match: `ask` breeds from whatever was told, `tell` takes what comes, be it less
    than was asked, or results of another search. So generations and asynchronous workers are served alike.

    Args:
        objectives: `Objectives`.
        population: number of architectures that may have children; also of random ones at the beginning, with the
            smallest and the largest among them where these are within the limits.
        mutation: probability of each gene to be drawn anew; None: one gene of a code on average.
        seed: integer or numpy Generator.

    Raises:
        ValueError: `population` or `mutation` make no sense.
    """

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
        """Returns children of `self.codes`, int32 (count, n); `mutation`: probability of each gene."""
        raise NotImplementedError

    def ask(self, n: int) -> list[Arch]:
        """Returns up to `n` new architectures; fewer, or none, when there are hardly more.

        Raises:
            ValueError: no architecture was found within all limits.
        """
        if self._first is None:
            self._first = self._queue = self._beginning()
        codes, self._queue = self._queue[:n], self._queue[n:]
        children = self.objectives.gather(n - len(codes), self._children, self._seen)
        codes = np.concatenate((codes, children))
        archs = [self.objectives.space.decode(code) for code in codes]
        self._asked.update(zip(archs, codes, strict=True))  # encoding them again takes as long as the rest of `tell`
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
        # Nothing is told yet.
        assert self._first is not None
        parents = self._first[self.rng.integers(len(self._first), size=count)]
        return mutate(self.objectives.space, parents, self.rng, probability)

    def told(self, archs: Sequence[Arch]) -> np.ndarray:
        """int32 (m, n): codes of architectures that were scored, which are not proposed again."""
        codes = []
        for arch in archs:
            code = self._asked.pop(arch, None)
            if code is None:
                code = self.objectives.space.encode(arch)
                self._seen.add(code.tobytes())
            codes.append(code)
        return np.array(codes, np.int32).reshape(-1, self.codes.shape[1])
