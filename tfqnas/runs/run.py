"""A run directory: its settings, data, checkpoints and logs."""

import collections
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, cast

import keras
import numpy as np
import tensorflow as tf

from tfqnas import spaces
from tfqnas.arch import Arch
from tfqnas.graph.rewriting import quantize
from tfqnas.cost import count
from tfqnas.data.dataset import DataSet
from tfqnas.data.dataset import load as load_data
from tfqnas.data.images import EvaluationImages
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, write_atomically
from tfqnas.progress import Progress
from tfqnas.quantizers import FLOAT, LSQ, BatchQuant, ByBits, Quantizer
from tfqnas.settings import plain
from tfqnas.subnet import extract
from tfqnas.supernet import Supernet
from tfqnas.train import checkpoint
from tfqnas.train.calibrate import accuracy, predict, recalibrate
from tfqnas.train.run_config import RunConfig
from tfqnas.train.loop import total_steps
from tfqnas.train.sampling import SamplingPolicy, sampler
from tfqnas.train.stages import MIXED, Bits, Stage, schedule, supernet_stage
from tfqnas.train.subnet_net import SubnetNet

# Images for the initialisation of the quantizers.
INITIAL_IMAGES = 256
# How many times larger than the data's images a space's smallest resolution may be.
LARGEST_ENLARGEMENT = 4


def _space(name: str) -> spaces.SearchSpace:
    """`spaces.get`, whose errors are the user's here."""
    try:
        return spaces.get(name)
    except ValueError as error:
        raise UserError(f"--space: {error}") from None


class Run:
    """A run directory: settings, data, checkpoints, logs.

    Args:
        config: `RunConfig` with its `run_dir`.

    Attributes:
        config: `RunConfig`. Besides `space`, `dataset`, `stages`, `directory` and `trained`.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.directory = pathlib.Path(config.run_dir)
        # The space as it was when the run began: a file that --space names may have changed since.
        kept = self.directory / "space.json"
        self.space = _space(str(kept) if config.run_dir and kept.exists() else config.space)
        self.stages = schedule(config, self.space.mixed)
        self.writes = _is_chief()
        self.trained: dict[str, Supernet | SubnetNet] = {}  # supernets that this process has trained, by stage
        self._images: collections.OrderedDict[tuple[str, int, int | None], EvaluationImages] = (
            collections.OrderedDict()
        )  # the one used last comes last

    @classmethod
    def create(cls, config: RunConfig) -> Self:
        """Opens the run directory of `config` and makes it where it is missing.

        Raises:
            UserError: where it holds a run with other settings, naming the first one that differs.
        """
        if not config.run_dir:
            raise UserError("--run_dir: expected a directory for the checkpoints and results of this run")
        path = pathlib.Path(config.run_dir) / "config.json"
        if path.exists():
            kept = _read_config(path)
            config.refuse_if_different(plain(kept), str(path))
            config = _with_float_supernet(config, kept, path.parent / "checkpoints" / "supernet_float")
        run = cls(config)
        if run.space != _space(config.space):
            raise UserError(
                f"--space={config.space} differs from {run.directory}/space.json, with which the run in "
                f"{run.directory} began: give the same space, or another --run_dir"
            )
        run.check()
        if run.writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(run.directory / "space.json", run.space.to_json() + "\n")
            write_atomically(path, config.to_json() + "\n")
        return run

    @classmethod
    def existing(cls, run_dir: str | pathlib.Path) -> Self:
        """Opens a run directory that a training has made, wherever it lies now."""
        path = pathlib.Path(run_dir) / "config.json"
        if not path.exists():
            raise UserError(f"--run_dir: expected a directory that tools/train.py made, {path} is not there")
        return cls(dataclasses.replace(_read_config(path), run_dir=str(run_dir)))

    @classmethod
    def of_checkpoint(cls, path: str | pathlib.Path) -> tuple[Self, Supernet, str]:
        """Returns `(run, supernet, description)` of a checkpoint file, or of the newest in a stage's directory.

        It may be of a stage that is not finished.
        """
        path = pathlib.Path(path)
        loaded = checkpoint.Checkpoints(path).load() if path.is_dir() else checkpoint.read(path)
        if loaded is None:
            raise UserError(f"{path}: expected a checkpoint file, or a directory with some")
        values, meta = loaded
        directory = path.parents[1] if path.is_dir() else path.parents[2]
        run = cls(dataclasses.replace(RunConfig(**meta["config"]), run_dir=str(directory)))
        supernet = run.new_supernet(meta["stage"]["bits"], meta["stage"].get("with_float", False))
        checkpoint.assign(supernet.variables, values, str(path))
        return run, supernet, f"{meta['stage']['name']} after {meta['step']} steps"

    def with_float_supernet(self, epochs: float, learning_rate: float) -> "Run":
        """The same run, with a float supernet yet to be trained unless it has that one already."""
        new: dict[str, Any] = {"float_supernet_epochs": epochs, "float_supernet_learning_rate": learning_rate}
        directory = self.directory / "checkpoints" / "supernet_float"
        config = _with_float_supernet(dataclasses.replace(self.config, **new), self.config, directory)
        if self.writes:
            write_atomically(self.directory / "config.json", config.to_json() + "\n")
        return Run(config)

    def check(self) -> None:
        """Refuses settings that the data cannot serve."""
        images, name = len(self.dataset.train), self.config.dataset
        if self.config.batch_size > images:
            raise UserError(
                f"--batch_size: expected at most the {images} training images of "
                f"{name}, received {self.config.batch_size}"
            )
        lowest, shorter = min(self.space.resolutions), min(self.dataset.image_size)
        highest = LARGEST_ENLARGEMENT * shorter
        if lowest > highest:
            known = ", such as tiny (24 to 32)" if min(spaces.get("tiny").resolutions) <= highest else ""
            raise UserError(
                f"--space={self.space.name}: expects images of {lowest} to {max(self.space.resolutions)} pixels, those "
                f"of {name} have {' x '.join(map(str, self.dataset.image_size))}: enlarging them more than "
                f"{LARGEST_ENLARGEMENT} times costs much and shows nothing new; take a space with a resolution of at "
                f"most {highest}{known}"
            )

    @functools.cached_property
    def dataset(self) -> DataSet:
        return load_data(self.config, self.config.held_out, self.config.seed)

    def images(self, split: str, resolution: int, limit: int | None = None) -> EvaluationImages:
        """`EvaluationImages` of a split at a resolution, kept as long as `cache_gb` allows.

        With a `limit` they are that many of the split, chosen at random, always the same.
        """
        key = (split, resolution, limit)
        if key not in self._images:
            chosen, budget = self.dataset.split(split), self.config.cache_gb * 1e9
            if limit is not None and limit < len(chosen):
                chosen = chosen.take(np.random.default_rng((self.config.seed, 2)).permutation(len(chosen))[:limit])
            images = EvaluationImages(chosen, resolution, self.config.evaluation_crop, budget)
            while self._images and images.nbytes + sum(kept.nbytes for kept in self._images.values()) > budget:
                self._images.popitem(last=False)
            self._images[key] = images
        self._images.move_to_end(key)
        return self._images[key]

    def recalibrate(self, supernet: Supernet | SubnetNet, arch: Arch) -> list[np.ndarray]:
        """BatchNorm statistics of a subnet, from training images at its resolution; a `SubnetNet` has its own."""
        if isinstance(supernet, SubnetNet):
            return []
        images = self.images("train", arch.resolution, self.config.recalibration_images)
        return recalibrate(supernet, self.space.encode(arch), images)

    def accuracy(
        self, supernet: Supernet | SubnetNet, arch: Arch, split: str, statistics: Sequence[np.ndarray] | None = None
    ) -> float:
        """Accuracy of a subnet on a split, after recalibration unless `statistics` are given."""
        statistics = self.recalibrate(supernet, arch) if statistics is None else statistics
        images = self.images(split, arch.resolution)
        return accuracy(predict(supernet, self.space.encode(arch), statistics, images), images.labels)

    @property
    def bit_widths(self) -> tuple[Bits, ...]:
        """Those of the run's supernets: the `bits` of the settings, or `MIXED` alone."""
        return (MIXED,) if self.space.mixed else self.config.bits

    def new_supernet(self, bits: Bits, with_float: bool = False) -> Supernet:
        """A fresh supernet of this run: LSQ of `bits`, `MIXED` quantizers, or None for floating point.

        Args:
            with_float: of `MIXED`: with 32 bits, floating point, among the choices.
        """
        config = self.config
        space = self.space.with_float() if with_float else self.space
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
            quantizers["weights"] = LSQ(bits=bits, narrow_range=config.narrow_range, shared=config.shared_steps)
            quantizers["inputs"] = LSQ(bits=bits, signed=False, shared=config.shared_steps)
        return Supernet(
            space,
            num_classes=self.dataset.num_classes,
            channels=self.dataset.channels,
            dropout=config.dropout,
            kernel_transform=config.kernel_transform,
            **quantizers,
        )

    def new_subnet(self, supernet: Supernet, arch: Arch, statistics: Sequence[np.ndarray] | None = None) -> SubnetNet:
        """A subnet of a supernet as an integer-aware `SubnetNet`; without statistics, of no use but to be loaded."""
        statistics = statistics or [np.ones((2, o.statistics_size)) for o in supernet.observers]
        model = quantize(extract(supernet, arch, statistics), integer_aware=True)
        return SubnetNet(model, self.space, supernet.settings)

    def stage(self, name: str) -> Stage:
        """The stage of this run's schedule with that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(f"stage: expected one of {[s.name for s in self.stages]}, received {name!r}")

    def cost(self, arch: Arch, bits: Bits) -> dict[str, float]:
        """Costs of a subnet by name, FLOPs in millions and weights in kB (1,000 bytes).

        Args:
            bits: of a subnet without bit widths of its own.
        """
        space = self.space
        if arch.bits is not None:
            bits, space = None, space.with_float() if any(FLOAT in pair for pair in arch.bits) else space
        cost = count(space, arch, cast("int | None", bits), self.dataset.num_classes, self.dataset.channels)
        return {
            "effective_mflops": cost.effective_flops / 1e6,
            "mmacs": cost.macs / 1e6,
            "mbitops": cost.bitops / 1e6,
            "params": cost.params,
            "kB": cost.weight_bytes / 1e3,
        }

    def sampler(self, stage: Stage) -> Callable[[np.random.Generator], list[Arch]]:
        """The subnets of a step of a stage, a function of a numpy Generator."""
        return sampler(self.space, stage, self.config.random_subnets, SamplingPolicy.of(self.config))

    def work(self, stage: Stage) -> float:
        """Relative work of a stage: MACs, three times a forward pass, of its subnets and its teacher."""
        rng = np.random.default_rng(0)
        subnets = [arch for _ in range(8) for arch in self.sampler(stage)(rng)]
        macs = sum(3 * self.cost(arch, stage.bits)["mmacs"] for arch in subnets) / 8
        if stage.soft_labels not in (None, "in_place"):
            macs += self.cost(self.space.largest(), stage.bits)["mmacs"]
        # A stage of no steps still loads, recalibrates and evaluates.
        return macs * (self.steps(stage) * self.config.batch_size + INITIAL_IMAGES)

    def checkpoints(self, stage: Stage) -> checkpoint.Checkpoints:
        return checkpoint.Checkpoints(self.directory / "checkpoints" / stage.name)

    def steps(self, stage: Stage) -> int:
        return total_steps(stage, len(self.dataset.train), self.config.batch_size)

    def finished(self, stage: Stage) -> bool:
        """Whether the stage's last checkpoint stands at its last step."""
        loaded = self.checkpoints(stage).load()
        return loaded is not None and loaded[1]["step"] == self.steps(stage)

    def load(self, stage: Stage) -> Supernet | SubnetNet:
        """The network that a finished stage has left, a supernet or a `SubnetNet`.

        Raises:
            UserError: where the stage has not been trained to its end.
        """
        loaded = self.checkpoints(stage).load()
        if loaded is None or loaded[1]["step"] != self.steps(stage):
            at = "has no checkpoint" if loaded is None else f"stands at step {loaded[1]['step']}"
            raise UserError(
                f"{self.directory}: stage {stage.name} {at}, expected step {self.steps(stage)}: "
                "run tools/train.py with this run's flags to its end"
            )
        supernet = self.new_supernet(stage.bits, stage.with_float)
        subnet = stage.arch if stage.integer_aware else None
        network = supernet if subnet is None else self.new_subnet(supernet, subnet)
        self.assign(network.variables, loaded, stage)
        return network

    def supernet(self, bits: Bits) -> Supernet:
        """The trained supernet of a bit width; None: the float one."""
        if bits is None and not self.config.float_supernet_epochs:
            raise UserError(f"{self.directory} has no float supernet: --float_supernet_epochs trains one")
        if bits not in (None, *self.bit_widths):
            raise UserError(f"--bits: expected one of this run's {list(self.bit_widths)}, received {bits}")
        stage = self.stage(supernet_stage(bits))
        return cast(Supernet, self.trained[stage.name] if stage.name in self.trained else self.load(stage))

    def assign(
        self, variables: Iterable[keras.Variable], loaded: tuple[dict[str, np.ndarray], dict[str, Any]], stage: Stage
    ) -> None:
        """Gives variables the values of a loaded checkpoint of a stage, if it was made with these settings."""
        values, meta = loaded
        where = f"the checkpoint of stage {stage.name} in {self.directory}"
        self.config.refuse_if_different(meta["config"], where)
        defaults = {field.name: field.default for field in dataclasses.fields(stage)}  # of fields younger than a file
        for name, value in stage_record(stage).items():
            theirs = meta["stage"].get(name, defaults[name])
            if theirs != value:
                raise UserError(f"{where}: {name} is {theirs}, this command has {value}")
        checkpoint.assign(variables, values, where)

    def progress(self, stages: Sequence[Stage] | None = None) -> Progress:
        """A `Progress` with a part for each stage."""
        return Progress([(stage.name, self.work(stage)) for stage in stages or self.stages])

    def log(self, **record: Any) -> None:
        """Appends a record to `log.jsonl`."""
        if self.writes:
            append_jsonl(self.directory / "log.jsonl", {"time": round(time.time(), 3), **record})


def _read_config(path: pathlib.Path) -> RunConfig:
    try:
        return RunConfig.from_json(path.read_text())
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the settings of a run ({error})") from None


def _with_float_supernet(config: RunConfig, kept: RunConfig, directory: pathlib.Path) -> RunConfig:
    """The settings with the float supernet that a run has got later: the command that began the run goes on, too.

    Args:
        config: of the command. kept: of the run. directory: of that supernet's checkpoints.

    Raises:
        UserError: where its training has begun with other settings.
    """
    names = ("float_supernet_epochs", "float_supernet_learning_rate")
    if not config.float_supernet_epochs:
        return dataclasses.replace(config, **{name: getattr(kept, name) for name in names})
    for name in names:
        ours, theirs = getattr(config, name), getattr(kept, name)
        if ours != theirs and checkpoint.Checkpoints(directory).files():
            raise UserError(
                f"{directory} was made with --{name}={theirs}, this command has --{name}={ours}: give the "
                "same value, or remove that directory to train the float supernet anew"
            )
    return config


def _is_chief() -> bool:
    """Only the first worker writes; all of them read."""
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    first = "chief" if "chief" in cluster.cluster_spec().jobs else "worker"
    return (cluster.task_type or first) == first and (cluster.task_id or 0) == 0


def stage_record(stage: Stage) -> dict[str, Any]:
    """A stage as it is written into its checkpoints."""
    return {**dataclasses.asdict(stage), "arch": stage.arch and stage.arch.key}
