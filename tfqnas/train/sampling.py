"""Which subnets a step trains: functions of a numpy Generator."""

import dataclasses
from collections.abc import Callable
from typing import Self, cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace
from tfqnas.train.run_config import RunConfig
from tfqnas.train.stages import TrainingStage


@dataclasses.dataclass(frozen=True)
class SamplingPolicy:
    """How random subnets are drawn: each of these with a probability, apart from that every choice is uniform.

    Args:
        one_precision: all bit widths alike, one of the choices. Mixtures drawn uniformly are hardly ever of one
            precision, nor near it: of 20 bit widths from 2, 3 and 4 the mean is 3 to within a few tenths.
        full_depth: the largest depth in every stage. full_resolution: the largest resolution.
    """

    one_precision: float = 0.0
    full_depth: float = 0.0
    full_resolution: float = 0.0

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """The policy of a run's settings."""
        return cls(config.sample_one_precision, config.sample_full_depth, config.sample_full_resolution)

    def sample(self, space: SearchSpace, rng: np.random.Generator) -> Arch:
        """A random architecture of `space`; with no policy that of `space.sample`."""
        code = rng.integers(0, space.choice_counts)
        kinds = np.array([gene.kind for gene in space.genes])
        if self.full_resolution and rng.random() < self.full_resolution:
            code[kinds == "resolution"] = len(space.resolutions) - 1
        if self.full_depth and rng.random() < self.full_depth:
            code = np.where(kinds == "depth", space.choice_counts - 1, code)
        if self.one_precision and rng.random() < self.one_precision:
            of_bits = [i for i, gene in enumerate(space.genes) if "bits" in gene.kind]
            common = sorted(set.intersection(*(set(space.genes[i].choices) for i in of_bits))) if of_bits else []
            if common:
                width = common[rng.integers(len(common))]
                code[of_bits] = [space.genes[i].choices.index(width) for i in of_bits]
        return space.decode(code)


def sampler(
    space: SearchSpace, stage: TrainingStage, random_subnets: int, policy: SamplingPolicy | None = None
) -> Callable[[np.random.Generator], list[Arch]]:
    """The subnets of a step as a function of a numpy Generator.

    "largest"; "sandwich" (Yu and Huang, 2019): largest, smallest and random ones, each at its own resolution;
    "subnet": the one of a finetuning.
    """
    policy = policy or SamplingPolicy()
    if stage.with_float:
        space = space.with_float()
    largest, smallest = space.largest(), space.smallest()
    samplers: dict[str, Callable[[np.random.Generator], list[Arch]]] = {
        "largest": lambda rng: [largest],
        "sandwich": lambda rng: [largest, smallest, *(policy.sample(space, rng) for _ in range(random_subnets))],
        "subnet": lambda rng: [cast(Arch, stage.arch)],
    }
    return samplers[stage.sampling]
