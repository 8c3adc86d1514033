"""Makes the networks with which stages begin, and loads the networks of finished stages."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, cast

import keras
import numpy as np

from tfqnas.arch import Arch
from tfqnas.errors import SettingError, UserError, as_text
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
        trained: the networks that this process has trained, by the names of their stages.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self.trained: dict[str, Supernet | SubnetNet] = {}

    def new_supernet(self, bits: Bits, with_float: bool = False) -> Supernet:
        """A new supernet of this run.

        Args:
            bits: bit width for LSQ, `MIXED`, or None for floating point.
            with_float: whether the choices of a `MIXED` supernet include 32 bits (floating point).
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
        """A subnet of a supernet as an integer-aware `SubnetNet`. Without statistics its values must be loaded."""
        statistics = statistics or [np.ones((2, o.statistics_size)) for o in supernet.observers]
        model = quantize(extract(supernet, arch, statistics), integer_aware=True)
        return SubnetNet(model, self._run.space, supernet.settings)

    def finished(self, stage: TrainingStage) -> bool:
        """Whether the stage's last checkpoint is of its last step."""
        loaded = self._run.checkpoints(stage).load()
        return loaded is not None and loaded[1]["step"] == self._run.steps(stage)

    def load(self, stage: TrainingStage) -> Supernet | SubnetNet:
        """Loads the network of a finished stage, a supernet or a `SubnetNet`.

        Raises:
            UserError: the stage has not been trained to its end.
        """
        loaded = self._run.checkpoints(stage).load()
        if loaded is None or loaded[1]["step"] != self._run.steps(stage):
            at = "has no checkpoint" if loaded is None else f"stands at step {loaded[1]['step']}"
            raise UserError(
                f"{self._run.directory}: stage {stage.name} {at}, expected step {self._run.steps(stage)}: "
                "run tfqnas train with this run's settings to its end"
            )
        supernet = self.new_supernet(stage.bits, stage.with_float)
        subnet = stage.arch if stage.integer_aware else None
        network = supernet if subnet is None else self.new_subnet(supernet, subnet)
        self.assign(network.variables, loaded, stage)
        return network

    def left_by(self, stage: TrainingStage) -> Supernet | SubnetNet:
        """The network of a finished stage.

        It is loaded only if this process has not trained it. One of several workers need not wait for the file then.
        """
        return self.trained[stage.name] if stage.name in self.trained else self.load(stage)

    def supernet(self, bits: Bits) -> Supernet:
        """The trained supernet of a bit width, or the float supernet for None."""
        if bits is None and not self._run.config.float_supernet_epochs:
            raise UserError(f"{self._run.directory} has no float supernet: `float_supernet_epochs` trains one")
        if bits not in (None, *self._run.bit_widths):
            raise SettingError("bits", f"one of this run's {as_text(self._run.bit_widths)}", bits)
        stage = self._run.stage(supernet_stage(bits))
        return cast(Supernet, self.left_by(stage))

    def identity(self, bits: Bits) -> str:
        """A digest of the checkpoint of the supernet of a bit width, "" without a checkpoint."""
        files = self._run.checkpoints(self._run.stage(supernet_stage(bits))).files()
        return hashlib.sha256(files[0].read_bytes()).hexdigest()[:16] if files else ""

    def assign(
        self,
        variables: Iterable[keras.Variable],
        loaded: tuple[dict[str, np.ndarray], dict[str, Any]],
        stage: TrainingStage,
    ) -> None:
        """Assigns the values of a loaded checkpoint; raises `UserError` if it was made with other settings."""
        values, meta = loaded
        where = f"the checkpoint of stage {stage.name} in {self._run.directory}"
        self._run.refuse_other(meta, where)
        if meta["step"] > (steps := self._run.steps(stage)):
            raise UserError(
                f"{where} stands at step {meta['step']}, beyond the {steps} steps that its settings and the "
                f"{len(self._run.dataset.train)} training images make: the data must have changed since; put the "
                "former data back, or give another `run_dir`"
            )
        defaults = {field.name: field.default for field in dataclasses.fields(stage)}  # older files lack some fields
        for name, value in stage_record(stage).items():
            theirs = meta["stage"].get(name, defaults[name])
            if theirs != value:
                raise UserError(f"{where}: {name} is {theirs}, this command has {value}")
        checkpoint.assign(variables, values, where)
