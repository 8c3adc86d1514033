"""The costs of subnets, and the relative work of training stages."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.cost import count
from tfqnas.progress import Progress
from tfqnas.quantizers import FLOAT
from tfqnas.runs.directory import RunDirectory
from tfqnas.train.sampling import sampler
from tfqnas.train.stages import Bits, TrainingStage

# Number of images that initialise the quantizers.
INITIAL_IMAGES = 256


class Costs:
    """The costs of subnets and the relative work of stages of a run.

    Args:
        run: `RunDirectory`.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def of(self, arch: Arch, bits: Bits) -> dict[str, float]:
        """`{name: cost}` of a subnet, with FLOPs, MACs and BitOPs in millions and weights in kB (1,000 bytes).

        Args:
            arch: `Arch`.
            bits: bit width of the supernet; ignored if the architecture has bit widths.
        """
        space = self._run.space
        if arch.bits is not None:
            bits, space = None, space.with_float() if any(FLOAT in pair for pair in arch.bits) else space
        cost = count(space, arch, cast("int | None", bits), self._run.dataset.num_classes, self._run.dataset.channels)
        return {
            "effective_mflops": cost.effective_flops / 1e6,
            "mmacs": cost.macs / 1e6,
            "mbitops": cost.bitops / 1e6,
            "params": cost.params,
            "kB": cost.weight_bytes / 1e3,
        }

    def work(self, stage: TrainingStage) -> float:
        """Relative work of a stage: MACs of its subnets, three times a forward pass, and of its teacher."""
        rng, config = np.random.default_rng(0), self._run.config
        sample = sampler(self._run.space, stage, config.random_subnets, config.sample_one_precision)
        subnets = [arch for _ in range(8) for arch in sample(rng)]
        macs = sum(3 * self.of(arch, stage.bits)["mmacs"] for arch in subnets) / 8
        if stage.soft_labels not in (None, "in_place"):
            macs += self.of(self._run.space.largest(), stage.bits)["mmacs"]
        # A stage without steps still loads, recalibrates and evaluates.
        return macs * (self._run.steps(stage) * self._run.config.batch_size + INITIAL_IMAGES)

    def progress(self, stages: Sequence[TrainingStage] | None = None) -> Progress:
        """A `Progress` with a part for each stage."""
        return Progress([(stage.name, self.work(stage)) for stage in stages or self._run.stages])
