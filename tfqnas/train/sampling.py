"""Which subnets a step trains: functions of a numpy Generator."""

from collections.abc import Callable
from typing import cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.spaces import SearchSpace
from tfqnas.train.stages import TrainingStage


def random_subnet(space: SearchSpace, rng: np.random.Generator, one_precision: float = 0.0) -> Arch:
    """A random architecture of `space` in which every choice is uniform.

    Args:
        one_precision: probability that all bit widths are one of the choices. Mixtures drawn uniformly are hardly ever
            of one precision, nor near it: of 20 bit widths from 2, 3 and 4 the mean is 3 to within a few tenths.
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
    """The subnets of a step as a function of a numpy Generator.

    "largest"; "sandwich" (Yu and Huang, 2019): largest, smallest and random ones (`random_subnet`), each at its own
    resolution; "subnet": the one of a finetuning.
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
