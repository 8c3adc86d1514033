"""Coarse-to-fine search: random subnets in bins of cost, then other kernel sizes for the best of them."""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import relatives
from tfqnas.search.dominance import non_dominated
from tfqnas.search.objectives import Objectives
from tfqnas.search.random_bins import RandomBins
from tfqnas.search.searcher import Searcher, register

# Architectures that are scored at a time. A large generation lets relatives share computation, also when it is divided
# among several processes. A small one is compared with a newer front, so that poor subnets are given up early.
_GENERATION = 100
# OQA, section 3.3, for its MobileNetV2 and V3 spaces: edges in millions of MACs, architectures in each bin.
PAPER_EDGES, PAPER_PER_BIN = tuple(range(50, 301, 50)), 2000
# These spaces, and the numbers of bins and of subnets per bin for other spaces.
_PAPER_SPACES = ("mbv3", "mbv3_relu", "mbv2")
_BINS, _PER_BIN = 6, 20


@register("coarse_to_fine", "random")
class CoarseToFine(Searcher):
    """Random architectures in bins of cost, then the front's skeletons with other kernel sizes (OQA, section 3.3).

    A skeleton is the resolution, the depths and the expand ratios. After all bins have been proposed, several rounds
    perturb the kernel sizes of the skeletons on the Pareto front of accuracy and the costs that `objectives` minimises.
    Each round takes the front of all scores told before it. No architecture is proposed twice or exceeds the limits.

    Tell the scores of a round before asking for the next one, since its proposals depend on them; `ask` never mixes two
    rounds. The architectures of a skeleton come in groups with the same kernel sizes in the first half of the network,
    sorted by their codes, which follow the order of the blocks. Neighbours thus share long prefixes, whose computation
    can be shared.

    Args:
        objectives: `Objectives`.
        edges: ascending edges of the bins in the unit of the cost `by`, or the number of bins of equal width from the
            smallest architecture to the largest, or to the limit of that cost. See `RandomBins`.
        per_bin: number of random architectures in each bin.
        by: name of the cost of the bins; by default millions of MACs of the float network, as in the paper.
        per_skeleton: number of perturbations of each skeleton in a round.
        rounds: number of rounds of perturbations.
        probability: probability that a kernel size is redrawn. In MobileNetV3's space of up to 20 blocks with 3 kernel
            sizes, 0.25 changes about three.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument is out of range.
    """

    generation = _GENERATION

    @classmethod
    def of_settings(cls, name: str, objectives: Objectives, settings: Any) -> tuple[Self, int]:
        """As `Searcher.of_settings`. The name "random" has no rounds of other kernel sizes."""
        paper = objectives.space.name in _PAPER_SPACES
        edges = settings.search_edges or settings.search_bins or (PAPER_EDGES if paper else _BINS)
        per_bin = settings.search_per_bin or (PAPER_PER_BIN if paper else _PER_BIN)
        rounds = settings.search_rounds if name == "coarse_to_fine" else 0
        per_skeleton = settings.search_per_skeleton
        searcher = cls(objectives, edges, per_bin, per_skeleton=per_skeleton, rounds=rounds, seed=settings.search_seed)
        coarse = per_bin * (len(searcher.edges) - 1)
        # By experience a front has about as many skeletons as the square root of the number of scored subnets. The
        # searcher also ends on its own.
        return searcher, coarse + rounds * per_skeleton * max(4, math.isqrt(coarse))

    @classmethod
    def reads(cls, name: str) -> tuple[str, ...]:
        bins = ("search_bins", "search_edges", "search_per_bin")
        return (*bins, "search_rounds", "search_per_skeleton") if name == "coarse_to_fine" else bins

    def __init__(
        self,
        objectives: Objectives,
        edges: int | Sequence[float],
        per_bin: int,
        by: str = "mmacs",
        per_skeleton: int = 20,
        rounds: int = 3,
        probability: float = 0.25,
        seed: int | np.random.Generator = 0,
    ) -> None:
        for name, value, least in (("per_skeleton", per_skeleton, 1), ("rounds", rounds, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected an integer from {least} on, received {value!r}")
        if not 0 < probability <= 1:
            raise ValueError(f"probability: expected a number above 0, up to 1, received {probability!r}")
        objectives.check("by", by)
        self.objectives, self.per_skeleton, self.probability = objectives, per_skeleton, probability
        self.rng = np.random.default_rng(seed)
        self._kernels = np.array([gene.kind == "kernel" for gene in objectives.space.genes])
        self._bins = self._random_bins(edges, per_bin, by)
        self._rounds_left = rounds
        self._seen: set[bytes] = set()
        self._told: list[np.ndarray] = []
        self._scores: list[float] = []
        self._queue = np.empty((0, len(self._kernels)), np.int32)

    @property
    def edges(self) -> tuple[float, ...]:
        """The edges of the bins."""
        return self._bins.edges

    def ask(self, n: int) -> list[Arch]:
        """The next architectures, at most `n`; an empty list at the end.

        Raises:
            ValueError: a bin cannot be filled.
        """
        if archs := self._bins.ask(n):
            self._seen.update(self.objectives.space.encode(arch).tobytes() for arch in archs)
            return archs
        if not len(self._queue) and self._rounds_left and self._told:
            self._rounds_left -= 1
            self._queue = np.concatenate([self._perturbed(code) for code in self.skeletons()])
        codes, self._queue = self._queue[:n], self._queue[n:]
        return [self.objectives.space.decode(code) for code in codes]

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Remembers the scores for the front."""
        self._told += [self.objectives.space.encode(arch) for arch in archs]
        self._scores += scores

    def skeletons(self) -> np.ndarray:
        """int32 (k, n): the most accurate code of each skeleton on the Pareto front so far, best first."""
        codes = np.array(self._told)
        values = np.column_stack((-np.asarray(self._scores, np.float64), self.objectives.values(codes)))
        front = codes[non_dominated(values)]
        _, first = np.unique(front[:, ~self._kernels], axis=0, return_index=True)
        return front[np.sort(first)]

    def _perturbed(self, code: np.ndarray) -> np.ndarray:
        """int32 (k, n): codes with new kernel sizes for the skeleton of `code`, sorted."""
        space = self.objectives.space

        def draw(count: int, idle: int) -> np.ndarray:
            probability = min(1, self.probability * (1 + idle))
            return relatives(space, code, self.rng, count, probability, self._kernels)

        codes = self.objectives.gather(self.per_skeleton, draw, self._seen)
        return codes[np.lexsort(codes.T[::-1])]

    def _random_bins(self, edges: int | Sequence[float], per_bin: int, by: str) -> RandomBins:
        objectives, space = self.objectives, self.objectives.space

        def plain(arch: Arch) -> float:
            return objectives.costs[by](space.encode(arch)[None])[0]

        between: Any = edges
        if np.ndim(between) == 0:
            low, *_, high = RandomBins(space, plain, between, per_bin).edges
            between = np.linspace(low, min(high, objectives.limits.get(by, high)), int(between) + 1)

        def cost(arch: Arch) -> float:
            # An architecture that exceeds the limits lies beyond all bins, farther the more it exceeds them, so that
            # walks to a bin find their way back.
            excess = objectives.excess(space.encode(arch)[None])[0]
            return max(between, default=0) * (1 + excess) if excess else plain(arch)

        return RandomBins(space, cost, between, per_bin, self.rng)
