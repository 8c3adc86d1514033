"""The networks of a run: those that its stages begin with, and those that they have left."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, cast

import keras
import numpy as np

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.graph.rewriting import quantize
from tfqnas.quantizers import LSQ, BatchQuant, ByBits, BySize, Quantizer
from tfqnas.runs.directory import RunDirectory, stage_record
from tfqnas.subnet import extract
from tfqnas.supernet import Supernet
from tfqnas.train import checkpoint
from tfqnas.train.stages import MIXED, Bits, TrainingStage, supernet_stage
from tfqnas.train.subnet_net import SubnetNet


class Networks:
    """Makes and loads the networks of a run.

    Args:
        run: `RunDirectory`.

    Attributes:
        trained: the networks that this process has trained, by the name of their stage.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self.trained: dict[str, Supernet | SubnetNet] = {}

    def new_supernet(self, bits: Bits, with_float: bool = False) -> Supernet:
        """A fresh supernet of this run: LSQ of `bits`, `MIXED` quantizers, or None for floating point.

        Args:
            with_float: of `MIXED`: with 32 bits, floating point, among the choices.
        """
        config = self._run.config
        space = self._run.space.with_float() if with_float else self._run.space
        quantizers: dict[str, Quantizer] = {}
        if bits == MIXED:
            choices = [space.weight_bits, space.input_bits]
            if space.fixed_bits is not None:
                choices = [tuple(sorted(set(widths))) for widths in zip(*space.fixed_bits, strict=True)]
            inputs: Quantizer = (
                BatchQuant(bits=4) if config.mixed_inputs == "batch_quant" else LSQ(bits=4, signed=False)
            )
            prototypes = (LSQ(bits=4, narrow_range=config.narrow_range), inputs)
            both = [ByBits(prototype, own) for prototype, own in zip(prototypes, choices, strict=True)]
            quantizers.update(zip(("weights", "inputs"), both, strict=True))
        elif bits is not None:
            quantizers["weights"] = LSQ(bits=bits, narrow_range=config.narrow_range)
            quantizers["inputs"] = LSQ(bits=bits, signed=False)
            if not config.shared_steps:
                quantizers = {role: BySize(quantizer) for role, quantizer in quantizers.items()}
        return Supernet(
            space,
            num_classes=self._run.dataset.num_classes,
            channels=self._run.dataset.channels,
            dropout=config.dropout,
            kernel_transform=config.kernel_transform,
            **quantizers,
        )

    def new_subnet(self, supernet: Supernet, arch: Arch, statistics: Sequence[np.ndarray] | None = None) -> SubnetNet:
        """A subnet of a supernet as an integer-aware `SubnetNet`; without statistics, of no use but to be loaded."""
        statistics = statistics or [np.ones((2, o.statistics_size)) for o in supernet.observers]
        model = quantize(extract(supernet, arch, statistics), integer_aware=True)
        return SubnetNet(model, self._run.space, supernet.settings)

    def finished(self, stage: TrainingStage) -> bool:
        """Whether the stage's last checkpoint stands at its last step."""
        loaded = self._run.checkpoints(stage).load()
        return loaded is not None and loaded[1]["step"] == self._run.steps(stage)

    def load(self, stage: TrainingStage) -> Supernet | SubnetNet:
        """The network that a finished stage has left, a supernet or a `SubnetNet`.

        Raises:
            UserError: where the stage has not been trained to its end.
        """
        loaded = self._run.checkpoints(stage).load()
        if loaded is None or loaded[1]["step"] != self._run.steps(stage):
            at = "has no checkpoint" if loaded is None else f"stands at step {loaded[1]['step']}"
            raise UserError(
                f"{self._run.directory}: stage {stage.name} {at}, expected step {self._run.steps(stage)}: "
                "run tools/train.py with this run's flags to its end"
            )
        supernet = self.new_supernet(stage.bits, stage.with_float)
        subnet = stage.arch if stage.integer_aware else None
        network = supernet if subnet is None else self.new_subnet(supernet, subnet)
        self.assign(network.variables, loaded, stage)
        return network

    def left_by(self, stage: TrainingStage) -> Supernet | SubnetNet:
        """The network that a finished stage has left.

        What this process has trained it need not read again, nor, as one of several workers, wait for.
        """
        return self.trained[stage.name] if stage.name in self.trained else self.load(stage)

    def supernet(self, bits: Bits) -> Supernet:
        """The trained supernet of a bit width; None: the float one."""
        if bits is None and not self._run.config.float_supernet_epochs:
            raise UserError(f"{self._run.directory} has no float supernet: --float_supernet_epochs trains one")
        if bits not in (None, *self._run.bit_widths):
            raise UserError(f"--bits: expected one of this run's {list(self._run.bit_widths)}, received {bits}")
        stage = self._run.stage(supernet_stage(bits))
        return cast(Supernet, self.left_by(stage))

    def assign(
        self,
        variables: Iterable[keras.Variable],
        loaded: tuple[dict[str, np.ndarray], dict[str, Any]],
        stage: TrainingStage,
    ) -> None:
        """Gives variables the values of a loaded checkpoint of a stage, if it was made with these settings."""
        values, meta = loaded
        where = f"the checkpoint of stage {stage.name} in {self._run.directory}"
        self._run.config.refuse_if_different(meta["config"], where)
        defaults = {field.name: field.default for field in dataclasses.fields(stage)}  # of fields younger than a file
        for name, value in stage_record(stage).items():
            theirs = meta["stage"].get(name, defaults[name])
            if theirs != value:
                raise UserError(f"{where}: {name} is {theirs}, this command has {value}")
        checkpoint.assign(variables, values, where)
