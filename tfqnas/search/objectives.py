"""The costs of a search: those that it minimises in addition to the error, and those that it limits."""

import dataclasses
import decimal
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfqnas.arch import Arch
from tfqnas.cost import Cost, count_codes
from tfqnas.search.codes import canonical, mutate, sample
from tfqnas.spaces import SearchSpace

# Give up after this many fruitless draws in a row.
_PATIENCE = 20
# The same for samples and walks from random architectures, of which one draw has many.
_BULK_PATIENCE = 3
# The steps of a walk into the limits, and how many of them it makes at least, to get away from its start.
_STEPS, _STEPS_INSIDE = 200, 10
# A step redraws two genes, so spaces with many genes (bit widths) need this many steps per gene. In mbv3_qfa 85% of the
# walks then reach a limit of 1.5 times the smallest effective FLOPs; with 200 steps 10% do.
_STEPS_A_GENE = 4


@dataclasses.dataclass(frozen=True)
class Objectives:
    """The costs of architectures of a space, and which of them are minimised or limited.

    Args:
        space: `SearchSpace`.
        costs: `{name: function}`. A function takes codes, int (m, n), and returns positive numbers (m,); less is
            better. It ignores genes of blocks beyond the depth and is a sum over blocks at a given resolution, as for
            FLOPs, parameters and latency tables. The cheapest bit width must not depend on other choices.
        minimised: names of the costs that are objectives in addition to accuracy; may be empty.
        limits: `{name: highest value}` of the costs that are limited.

    Raises:
        ValueError: a name is not in `costs`, or no architecture meets a limit.
    """

    space: SearchSpace
    costs: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    minimised: tuple[str, ...] = ()
    limits: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimised", tuple(self.minimised))
        for what, names in (("objectives", self.minimised), ("limits", self.limits)):
            for name in names:
                self.check(what, name)
        for name, limit in self.limits.items():
            smallest, _ = self.smallest(name)
            if not limit >= smallest:
                raise ValueError(
                    f"max {name}: expected at least {_rounded_up(smallest)}, the smallest that space "
                    f"{self.space.name} reaches, received {limit}"
                )

    def check(self, where: str, name: str) -> None:
        """Raises a ValueError that begins with `where` if no cost has this name."""
        if name not in self.costs:
            raise ValueError(f"{where}: expected some of {', '.join(self.costs)}, received {name!r}")

    def values(self, codes: np.ndarray) -> np.ndarray:
        """float64 (m, minimised): the minimised costs of `codes`, int (m, n)."""
        columns = [self.costs[name](codes) for name in self.minimised]
        return np.array(columns, np.float64).reshape(len(columns), len(codes)).T

    def excess(self, codes: np.ndarray) -> np.ndarray:
        """float64 (m,): the sum of the fractions by which costs exceed their limits; 0 if all limits hold."""
        total = np.zeros(len(codes))
        for name, limit in self.limits.items():
            total += np.maximum(self.costs[name](codes) - limit, 0) / (abs(limit) or 1)
        return total

    def record(self, arch: Arch) -> dict[str, float]:
        """`{name: cost}` of an architecture, as Python numbers."""
        code = self.space.encode(arch)[None]
        return {name: np.asarray(cost(code))[0].item() for name, cost in self.costs.items()}

    def smallest(self, name: str) -> tuple[float, np.ndarray]:
        """The smallest value of a cost in the space, and an architecture that reaches it.

        For every resolution it chooses the best value of each bit width, then the best kernel size and expand ratio of
        each block, then the best depth of each stage. This is exact for sums over blocks, even if a larger choice costs
        less, as on real devices. Bit widths are chosen one by one since costs rise with each of them, and since
        combining them with the choices of their blocks would give thousands of combinations.

        Returns:
            `(cost, code)`, the code int32 (n,).
        """
        space, positions = self.space, self.space.gene_index
        codes = np.tile(space.choice_counts - 1, (len(space.resolutions), 1))
        codes[:, 0] = np.arange(len(codes))
        codes = self._cheapest_bits(name, codes)
        for gene in space.genes:
            if gene.kind == "kernel":
                block = [positions(kind, gene.stage, gene.block) for kind in ("kernel", "expand")]
                codes = self._cheapest(name, codes, block)
        for i, gene in enumerate(space.genes):
            if gene.kind == "depth":
                codes = self._cheapest(name, codes, [i])
        codes = canonical(space, codes)
        values = np.asarray(self.costs[name](codes))
        return values.min().item(), codes[values.argmin()]

    def _cheapest_bits(self, name: str, codes: np.ndarray) -> np.ndarray:
        """`codes` with each bit width set to its cheapest choice, row by row."""
        space = self.space
        genes = np.unique(space.bit_genes)
        if not len(genes):
            return codes
        # All choices of all these genes at once; each variant changes one gene.
        changed = np.repeat(genes, space.choice_counts[genes])
        choices = np.concatenate([np.arange(n) for n in space.choice_counts[genes]])
        variants = np.repeat(codes[:, None], len(changed), axis=1)
        variants[:, np.arange(len(changed)), changed] = choices
        flat = canonical(space, variants.reshape(-1, codes.shape[1]))
        values = np.reshape(self.costs[name](flat), variants.shape[:2])
        codes = codes.copy()
        for gene in genes:
            codes[:, gene] = values[:, changed == gene].argmin(axis=1)
        return codes

    def _cheapest(self, name: str, codes: np.ndarray, genes: list[int]) -> np.ndarray:
        """`codes` with `genes` (positions) set to their cheapest combination of choices, row by row."""
        choices = np.indices(self.space.choice_counts[genes].tolist()).reshape(len(genes), -1).T
        variants = np.repeat(codes[:, None], len(choices), axis=1)
        variants[:, :, genes] = choices
        flat = canonical(self.space, variants.reshape(-1, codes.shape[1]))
        values = np.reshape(self.costs[name](flat), variants.shape[:2])
        return variants[np.arange(len(codes)), values.argmin(axis=1)]

    def gather(
        self, count: int, draw: Callable[[int, int], np.ndarray], seen: set[bytes], patience: int = _PATIENCE
    ) -> np.ndarray:
        """Up to `count` new codes within the limits from random draws; fewer if draws stay fruitless.

        Args:
            count: number of codes.
            draw: function (number, idle) that returns this number of canonical codes. `idle` is the number of fruitless
                draws just before; the number requested grows with it, and the draws may become bolder.
            seen: bytes of the codes that are not new; those of the returned codes are added.
            patience: give up after this many fruitless draws in a row.

        Returns:
            int32 (k, n), all different.
        """
        found: list[np.ndarray] = []
        idle = 0
        while len(found) < count and idle < patience:
            before, codes = len(found), draw((count - len(found)) * (1 + idle), idle)
            for code in codes[self.excess(codes) == 0]:
                if len(found) < count and (key := code.tobytes()) not in seen:
                    seen.add(key)
                    found.append(code)
            idle = 0 if len(found) > before else idle + 1
        return np.array(found, np.int32).reshape(-1, len(self.space.genes))

    def feasible(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Up to `count` different random codes within the limits; fewer if hardly any more are found.

        Codes are sampled first. Walks of mutations that never raise the excess find the rest.

        Returns:
            int32 (k, n), k at least 1 if `count` is.

        Raises:
            ValueError: none was found. The message states the smallest value of each limited cost.
        """
        seen: set[bytes] = set()
        sampled = self.gather(count, lambda m, _: sample(self.space, rng, m), seen, _BULK_PATIENCE)
        walked = self.gather(count - len(sampled), lambda m, _: self._walk(rng, m), seen, _BULK_PATIENCE)
        if count and not seen:
            limits = (
                f"{name} <= {limit} (smallest: {_rounded_up(self.smallest(name)[0])})"
                for name, limit in self.limits.items()
            )
            raise ValueError(
                f"found no architecture of space {self.space.name} within all limits: {', '.join(limits)}; "
                "each can be met alone"
            )
        return np.concatenate((sampled, walked))

    def _walk(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int32 (count, n): the ends of walks that start at random codes and at the cheapest code of each limit."""
        codes = sample(self.space, rng, count)
        # A limit may be so low that walks from random codes do not reach it.
        starts = [self.smallest(name)[1] for name in self.limits][:count]
        if starts:
            codes[: len(starts)] = starts
        excess, probability = self.excess(codes), min(1, 2 / codes.shape[1])
        for step in range(max(_STEPS, _STEPS_A_GENE * codes.shape[1])):
            if step >= _STEPS_INSIDE and not excess.any():
                break
            steps = mutate(self.space, codes, rng, probability)
            after = self.excess(steps)
            better = after <= excess
            codes[better], excess[better] = steps[better], after[better]
        return codes


def model_costs(
    space: SearchSpace, bits: int | tuple[int, int] | None = None, num_classes: int = 1000, channels: int = 3
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The costs that follow from the architecture alone, for `Objectives.costs`, with the names of a run's `Costs.of`.

    "effective_mflops", "mmacs" and "mbitops" are in millions, "params" is a count, and "kB" is the size of the weights
    in 1,000 bytes.

    Args:
        space, bits, num_classes, channels: as in `tfqnas.cost.count`; `bits` is None for a space that searches them.

    Raises:
        ValueError: the returned functions raise it in the same cases as `count`.
    """
    counted = _Counted(space, bits, num_classes, channels)
    fields = {
        "effective_mflops": ("effective_flops", 1e6),
        "mmacs": ("macs", 1e6),
        "mbitops": ("bitops", 1e6),
        "params": ("params", None),
        "kB": ("weight_bytes", 1e3),
    }
    return {name: functools.partial(_field, counted, *field) for name, field in fields.items()}


class _Counted:
    """`count_codes` with a memory of its last result, so that several costs of the same codes are counted once."""

    def __init__(self, *arguments: Any) -> None:
        self._space, *self._others = arguments
        self._last: tuple[tuple[Any, ...] | None, Any] = None, None

    def __call__(self, codes: np.ndarray) -> Cost[np.ndarray]:
        codes = np.asarray(codes)
        key, last = (codes.shape, codes.dtype, codes.tobytes()), self._last
        if last[0] != key:
            last = self._last = key, count_codes(self._space, codes, *self._others)
        return last[1]


def _field(counted: _Counted, field: str, unit: float | None, codes: np.ndarray) -> np.ndarray:
    value = getattr(counted(codes), field)
    return value / unit if unit else value


def _rounded_up(value: float) -> str:
    """A number rounded up to six digits, so that it can be used as a limit."""
    context = decimal.Context(prec=6, rounding=decimal.ROUND_CEILING)
    return f"{context.create_decimal(value).normalize(context):f}"
