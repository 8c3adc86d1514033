"""What the subnets and the stages of a run cost."""

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

# Images for the initialisation of the quantizers.
INITIAL_IMAGES = 256


class Costs:
    """Costs of subnets by name, and the relative work of stages.

    Args:
        run: `RunDirectory`.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def of(self, arch: Arch, bits: Bits) -> dict[str, float]:
        """Costs of a subnet by name, FLOPs in millions and weights in kB (1,000 bytes).

        Args:
            bits: of a subnet without bit widths of its own.
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
        """Relative work of a stage: MACs, three times a forward pass, of its subnets and its teacher."""
        rng, config = np.random.default_rng(0), self._run.config
        sample = sampler(self._run.space, stage, config.random_subnets, config.sample_one_precision)
        subnets = [arch for _ in range(8) for arch in sample(rng)]
        macs = sum(3 * self.of(arch, stage.bits)["mmacs"] for arch in subnets) / 8
        if stage.soft_labels not in (None, "in_place"):
            macs += self.of(self._run.space.largest(), stage.bits)["mmacs"]
        # A stage of no steps still loads, recalibrates and evaluates.
        return macs * (self._run.steps(stage) * self._run.config.batch_size + INITIAL_IMAGES)

    def progress(self, stages: Sequence[TrainingStage] | None = None) -> Progress:
        """A `Progress` with a part for each stage."""
        return Progress([(stage.name, self.work(stage)) for stage in stages or self._run.stages])
