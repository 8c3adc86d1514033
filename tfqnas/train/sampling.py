"""Draws the subnets that a training step trains."""

from collections.abc import Callable
from typing import cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace
from tfqnas.train.stages import TrainingStage


def random_subnet(space: SearchSpace, rng: np.random.Generator, one_precision: float = 0.0) -> Arch:
    """A random architecture of `space` in which every choice is uniform.

    Args:
        space: `SearchSpace`.
        rng: numpy Generator.
        one_precision: probability that all bit widths are equal. Uniform mixtures are hardly ever close to that, since
            the mean of 20 bit widths from 2, 3 and 4 is 3 to within a few tenths.
    """
    code = rng.integers(0, space.choice_counts)
    if one_precision and rng.random() < one_precision:
        of_bits = [i for i, gene in enumerate(space.genes) if "bits" in gene.kind]
        common = sorted(set.intersection(*(set(space.genes[i].choices) for i in of_bits))) if of_bits else []
        if common:
            width = common[rng.integers(len(common))]
            code[of_bits] = [space.genes[i].choices.index(width) for i in of_bits]
    return space.decode(code)


def sampler(
    space: SearchSpace, stage: TrainingStage, random_subnets: int, one_precision: float = 0.0
) -> Callable[[np.random.Generator], list[Arch]]:
    """A function of a numpy Generator that returns the subnets of a step.

    With the stage's sampling "largest" it is the largest subnet; with "sandwich" (Yu and Huang, 2019) the largest, the
    smallest and random ones, each at its own resolution; with "subnet" the subnet of a finetuning.

    Args:
        space: `SearchSpace` from which subnets are drawn.
        stage: `TrainingStage`.
        random_subnets: number of random subnets of a sandwich.
        one_precision: as in `random_subnet`.
    """
    if stage.with_float:
        space = space.with_float()
    largest, smallest = space.largest(), space.smallest()

    def some(rng: np.random.Generator) -> list[Arch]:
        return [random_subnet(space, rng, one_precision) for _ in range(random_subnets)]

    samplers: dict[str, Callable[[np.random.Generator], list[Arch]]] = {
        "largest": lambda rng: [largest],
        "sandwich": lambda rng: [largest, smallest, *some(rng)],
        "subnet": lambda rng: [cast(Arch, stage.arch)],
    }
    return samplers[stage.sampling]
