"""Random search with the same number of architectures in every range of cost."""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.searcher import Searcher
from tfqnas.spaces import SearchSpace

# Random draws for each wanted architecture. Walks fill the bins that are not full after that.
_DRAWS = 20
# A walk gives up after this many mutations that bring it no closer, a bin after this many such walks in a row.
_MUTATIONS = 500
_WALKS = 10


class RandomBins(Searcher):
    """Different random architectures, `per_bin` in every bin of cost (OQA, section 3.3: 2,000 in every 50 MFLOPs).

    Most random architectures lie near the middle of the cost range. Bins are therefore filled by sampling first, and
    then by walks. A walk starts at a random architecture and mutates about two genes at a time. It keeps mutations that
    are no farther from the bin, until it meets a new architecture of the bin. Sampled architectures are distributed
    within their bin as in the space; walks favour architectures that are easy to reach.

    The largest and the smallest architecture are always taken if a bin covers them. Bins take turns in `ask`, so that
    the first n architectures are spread evenly too.

    Args:
        space: `SearchSpace`.
        cost: function of an `Arch` that returns a number.
        edges: ascending costs between which the bins lie, or a number of bins of equal width from the cost of the
            smallest to that of the largest architecture. A bin includes its lower edge, the last bin both edges.
        per_bin: number of architectures in each bin.
        seed: integer or numpy Generator.

    Raises:
        ValueError: `edges` or `per_bin` is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        cost: Callable[[Arch], float],
        edges: int | Sequence[float] | np.ndarray,
        per_bin: int,
        seed: int | np.random.Generator = 0,
    ) -> None:
        self._space, self._cost = space, cost
        self._cheapest, self._dearest = math.inf, -math.inf
        ends = [self._price(arch) for arch in (space.smallest(), space.largest())]
        wanted: Any = edges
        if np.ndim(wanted) == 0:
            if wanted != int(wanted) or wanted < 1:
                raise ValueError(f"edges: expected costs or a positive number of bins, received {edges}")
            wanted = np.linspace(ends[0], ends[1], int(wanted) + 1)
        self.edges = tuple(float(edge) for edge in wanted)
        if len(self.edges) < 2 or not all(a < b for a, b in itertools.pairwise(self.edges)):
            raise ValueError(f"edges: expected at least two ascending costs, received {self.edges}")
        if per_bin < 1:
            raise ValueError(f"per_bin: expected a positive integer, received {per_bin}")
        self.per_bin = per_bin
        self._rng = np.random.default_rng(seed)
        self._bins: list[list[Arch]] = [[] for _ in self.edges[1:]]
        self._taken: set[Arch] = set()
        self._queue: list[Arch] | None = None

    def ask(self, n: int) -> list[Arch]:
        """The next `n` architectures, fewer at the end. The first call finds all architectures.

        Raises:
            ValueError: a bin cannot be filled. The message names it and the range of costs that was found.
        """
        if self._queue is None:
            self._fill()
            self._queue = list(itertools.chain(*zip(*self._bins, strict=True)))
        archs, self._queue = self._queue[:n], self._queue[n:]
        return archs

    def _fill(self) -> None:
        self._take(self._space.largest())
        self._take(self._space.smallest())
        wanted = self.per_bin * len(self._bins)
        for _ in range(_DRAWS * wanted):
            if len(self._taken) == wanted:
                return
            self._take(self._space.sample(self._rng))
        for i, archs in enumerate(self._bins):
            failures = 0
            while len(archs) < self.per_bin:
                failures = 0 if self._walk(i) else failures + 1
                if failures == _WALKS:
                    low, high = self.edges[i : i + 2]
                    raise ValueError(
                        f"bin {i + 1} of {len(self._bins)}, cost {low:.6g} to {high:.6g}: found {len(archs)} "
                        f"of {self.per_bin} architectures; costs in {self._space.name} go from "
                        f"{self._cheapest:.6g} to {self._dearest:.6g}"
                    )

    def _walk(self, i: int) -> bool:
        """Walks from a random architecture to bin `i`; returns whether an architecture was added to it."""
        probability = min(1, 2 / len(self._space.genes))
        arch = self._space.sample(self._rng)
        distance = self._distance(arch, i)
        idle = 0
        while idle < _MUTATIONS:
            if distance == 0 and self._take(arch):
                return True
            candidate = self._space.mutate(arch, self._rng, probability)
            candidate_distance = self._distance(candidate, i)
            idle = 0 if candidate_distance < distance else idle + 1
            # Accepting equal distances leaves plateaus, and inside the bin finds new architectures.
            if candidate_distance <= distance:
                arch, distance = candidate, candidate_distance
        return False

    def _take(self, arch: Arch) -> bool:
        """Puts a new `arch` into its bin if the bin has room; returns whether it did."""
        i = self._bin(self._price(arch))
        if i is None or len(self._bins[i]) == self.per_bin or arch in self._taken:
            return False
        self._bins[i].append(arch)
        self._taken.add(arch)
        return True

    def _distance(self, arch: Arch, i: int) -> float:
        cost = self._price(arch)
        if self._bin(cost) == i:
            return 0.0
        # The upper edge belongs to the next bin, so its distance must be above 0.
        return max(self.edges[i] - cost, cost - self.edges[i + 1], math.ulp(self.edges[i + 1]))

    def _bin(self, cost: float) -> int | None:
        """The index of the bin of `cost`, or None outside the edges."""
        if cost == self.edges[-1]:
            return len(self.edges) - 2
        i = bisect.bisect_right(self.edges, cost) - 1
        return i if 0 <= i < len(self.edges) - 1 else None

    def _price(self, arch: Arch) -> float:
        cost = self._cost(arch)
        if math.isnan(cost):
            raise ValueError(f"{arch.key}: its cost is NaN")
        self._cheapest, self._dearest = min(self._cheapest, cost), max(self._dearest, cost)
        return cost
