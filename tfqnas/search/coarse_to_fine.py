"""Coarse to fine: random subnets in bins of cost, then other kernel sizes for the best of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfqnas.arch import Arch
from tfqnas.search.codes import relatives
from tfqnas.search.dominance import non_dominated
from tfqnas.search.objectives import Objectives
from tfqnas.search.random_bins import RandomBins
from tfqnas.search.searcher import Searcher

# Architectures of a phase that are judged at a time: many, since relatives share most of their computation, and pieces
# for several processes are then still large; not thousands, since only a generation's front gives its successors up.
_GENERATION = 100
# OQA, section 3.3, for its MobileNetV2 and V3 spaces: edges in millions of MACs, architectures in each bin.
PAPER_EDGES, PAPER_PER_BIN = tuple(range(50, 301, 50)), 2000


class CoarseToFine(Searcher):
    """Random architectures in bins of cost, then the front's skeletons with other kernel sizes (OQA, section 3.3).

    A skeleton is the resolution, the depths and the expand ratios. When all bins have been proposed, those of the
    Pareto front (of accuracy and the costs that `objectives` minimises) get perturbed kernel sizes, in several
    rounds, each with the front of all that was told by then. Nothing is proposed twice or beyond the limits.

    What a round proposes depends only on what was told before it, so tell the scores of one before asking for the
    next: `ask` never returns architectures of two. Those of a skeleton come in groups with the same kernel sizes in the
    first half of the network, in order of their codes, which is the order of the network's blocks: neighbours share
    long prefixes, whose computation can be shared.

    Args:
        objectives: `Objectives`.
        edges: between which the bins lie, ascending, in the unit of the cost `by`; or a number of bins of equal
            width from the smallest architecture to the largest, or to the limit of that cost. `RandomBins`.
        per_bin: number of random architectures in each bin.
        by: name of the cost of the bins, by default millions of MACs: those of the float network, as in the paper.
        per_skeleton: number of perturbations of each skeleton in a round.
        rounds: of perturbations.
        probability: of each kernel size to be drawn anew. In MobileNetV3's space of up to 20 blocks, with 3 kernel
            sizes to draw from, 0.25 changes about three.
        seed: integer or numpy Generator.

    Raises:
        ValueError: an argument makes no sense.
    """

    generation = _GENERATION

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
        """Of the bins, a tuple of floats."""
        return self._bins.edges

    def ask(self, n: int) -> list[Arch]:
        """Returns the next architectures, up to `n`; none at the end.

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
        """int32 (k, n): codes of the Pareto front of what was told, the most accurate of each skeleton, best first."""
        codes = np.array(self._told)
        values = np.column_stack((-np.asarray(self._scores, np.float64), self.objectives.values(codes)))
        front = codes[non_dominated(values)]
        _, first = np.unique(front[:, ~self._kernels], axis=0, return_index=True)
        return front[np.sort(first)]

    def _perturbed(self, code: np.ndarray) -> np.ndarray:
        """int32 (k, n): new kernel sizes for the skeleton of `code`, in order."""
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
            # Beyond all bins, farther the more it exceeds the limits: then walks to a bin find back.
            excess = objectives.excess(space.encode(arch)[None])[0]
            return max(between, default=0) * (1 + excess) if excess else plain(arch)

        return RandomBins(space, cost, between, per_bin, self.rng)
