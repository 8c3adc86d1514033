"""A run with its directory, the networks of its stages, their evaluation and their costs."""

import dataclasses
import pathlib
from typing import Self

from tfqnas.errors import UserError
from tfqnas.runs.costs import Costs
from tfqnas.runs.directory import RunDirectory, made_with
from tfqnas.runs.evaluator import Evaluator
from tfqnas.runs.networks import Networks
from tfqnas.supernet import Supernet
from tfqnas.train import checkpoint
from tfqnas.train.run_config import RunConfig


class Run(RunDirectory):
    """A `RunDirectory` with its networks.

    Args:
        config: `RunConfig` with its `run_dir`.
        writes: whether this process writes files, as only the first of several workers does.

    Attributes:
        networks: `Networks`.
        evaluator: `Evaluator`.
        costs: `Costs`.
    """

    def __init__(self, config: RunConfig, writes: bool = True) -> None:
        super().__init__(config, writes)
        self.networks, self.evaluator, self.costs = Networks(self), Evaluator(self), Costs(self)

    @classmethod
    def of_checkpoint(cls, path: str | pathlib.Path) -> tuple[Self, Supernet, str]:
        """`(run, supernet, description)` of a checkpoint file, or of the newest checkpoint in a stage's directory.

        The stage need not be finished.
        """
        path = pathlib.Path(path)
        loaded = checkpoint.Checkpoints(path).load() if path.is_dir() else checkpoint.read(path)
        if loaded is None:
            raise UserError(f"{path}: expected a checkpoint file, or a directory with some")
        values, meta = loaded
        directory = path.parents[1] if path.is_dir() else path.parents[2]
        config = RunConfig.from_json(made_with(meta, str(path))["config"], str(path))
        run = cls(dataclasses.replace(config, run_dir=str(directory)))
        (cls.existing(directory) if (directory / "config.json").exists() else run).refuse_other(meta, str(path))
        supernet = run.networks.new_supernet(meta["stage"]["bits"], meta["stage"].get("with_float", False))
        checkpoint.assign(supernet.variables, values, str(path))
        return run, supernet, f"{meta['stage']['name']} after {meta['step']} steps"
