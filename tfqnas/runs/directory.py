"""A run directory with its settings, space, data, checkpoints and log."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from typing import Annotated, Any, NotRequired, Self, TypedDict

from tfqnas import spaces
from tfqnas.data.data_record import DataRecord
from tfqnas.data.dataset import DataSet
from tfqnas.data.dataset import load as load_data
from tfqnas.errors import SettingError, UserError
from tfqnas.files import append_jsonl, read_regular, write_atomically
from tfqnas.locks import writer
from tfqnas.records import Open, conform
from tfqnas.settings import plain
from tfqnas.train import checkpoint
from tfqnas.train.loop import total_steps
from tfqnas.train.run_config import RunConfig, space_of
from tfqnas.train.stages import MIXED, Bits, TrainingStage, schedule

# The smallest resolution of a space may be at most this many times the size of the data's images.
LARGEST_ENLARGEMENT = 4


class _Stage(TypedDict):
    name: str
    bits: Bits
    with_float: NotRequired[bool]


class Made(TypedDict):
    """What a checkpoint says of itself."""

    stage: Annotated[_Stage, Open()]
    config: dict[str, Any]
    space: NotRequired[spaces.SearchSpace]
    class_names: NotRequired[list[str]]


class RunDirectory:
    """The contents of a run directory, without its networks.

    Args:
        config: `RunConfig` with its `run_dir`.
        writes: whether this process writes files, as only the first of several workers does.

    Attributes:
        config: `RunConfig`.
        directory: `pathlib.Path`.
        space: the `SearchSpace` with which the run began.
        stages: the run's schedule, a tuple of `TrainingStage`.
        writes: as the argument.
        dataset: the `DataSet`, which is loaded on first use.
    """

    def __init__(self, config: RunConfig, writes: bool = True) -> None:
        self.config = config
        self.directory = pathlib.Path(config.run_dir)
        # The file of `space` may have changed since the run began.
        kept = self.directory / "space.json"
        self.space = space_of(str(kept) if config.run_dir and kept.exists() else config.space)
        self.stages = schedule(config, self.space.mixed)
        self.writes = writes

    @classmethod
    def create(cls, config: RunConfig, writes: bool = True) -> Self:
        """Opens the run directory of `config`, and creates it if it is missing; the arguments are those of the class.

        Raises:
            UserError: it holds a run with other settings, or another process writes there. The message names the first
                setting that differs, or the process.
        """
        if not config.run_dir:
            raise SettingError("run_dir", "a directory for the checkpoints and results of this run", "")
        with writer(config.run_dir, "run_dir") if writes else contextlib.nullcontext():
            return cls._create(config, writes)

    @classmethod
    def _create(cls, config: RunConfig, writes: bool) -> Self:
        path = pathlib.Path(config.run_dir) / "config.json"
        if path.exists():
            kept = _read_config(path)
            config.refuse_if_different(plain(kept), str(path))
            config = _with_float_supernet(config, kept, path.parent / "checkpoints" / "supernet_float")
        run = cls(config, writes)
        if run.space != space_of(config.space):
            raise UserError(
                f"`space={config.space}` differs from {run.directory}/space.json, with which the run in "
                f"{run.directory} began: give the same space, or another `run_dir`"
            )
        run.check()
        if run.writes:
            if run.data_record is None:
                if path.exists():
                    print(f"{run.directory}: has no record of its data yet, so they are recorded as they are now")
                run.dataset.record.write(run.directory)
            write_atomically(run.directory / "space.json", run.space.to_json() + "\n")
            write_atomically(path, config.to_json() + "\n")
        return run

    @classmethod
    def existing(cls, run_dir: str | pathlib.Path) -> Self:
        """Opens an existing run directory, which may have been moved; raises `UserError` if it is not one."""
        path = pathlib.Path(run_dir) / "config.json"
        if not path.exists():
            raise UserError(f"`run_dir`: expected a directory that tfqnas train made, {path} is not there")
        return cls(dataclasses.replace(_read_config(path), run_dir=str(run_dir)))

    def with_float_supernet(self, epochs: float, learning_rate: float) -> Self:
        """The same run with a float supernet added to its schedule, unless it has that one already."""
        new: dict[str, Any] = {"float_supernet_epochs": epochs, "float_supernet_learning_rate": learning_rate}
        directory = self.directory / "checkpoints" / "supernet_float"
        config = _with_float_supernet(dataclasses.replace(self.config, **new), self.config, directory)
        with self.writing():
            if self.writes:
                write_atomically(self.directory / "config.json", config.to_json() + "\n")
        return type(self)(config, self.writes)

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """While this is entered, no other process writes to the directory. It may be entered again within itself.

        Raises:
            UserError: another process writes there. The message says which.
        """
        return writer(self.directory, "run_dir") if self.writes else contextlib.nullcontext()

    def check(self) -> None:
        """Raises UserError for settings that do not suit the data."""
        images, name = len(self.dataset.train), self.config.dataset
        if self.config.batch_size > images:
            raise SettingError("batch_size", f"at most the {images} training images of {name}", self.config.batch_size)
        lowest, shorter = min(self.space.resolutions), min(self.dataset.image_size)
        highest = LARGEST_ENLARGEMENT * shorter
        if lowest > highest:
            known = ", such as tiny (24 to 32)" if min(spaces.get("tiny").resolutions) <= highest else ""
            raise UserError(
                f"`space={self.space.name}`: expects images of {lowest} to {max(self.space.resolutions)} pixels, those "
                f"of {name} have {' x '.join(map(str, self.dataset.image_size))}: enlarging them more than "
                f"{LARGEST_ENLARGEMENT} times costs much and shows nothing new; take a space with a resolution of at "
                f"most {highest}{known}"
            )

    @functools.cached_property
    def dataset(self) -> DataSet:
        """The run's data set, with the images with which the run began."""
        return load_data(self.config, self.config.held_out, self.config.seed, record=self.data_record)

    @property
    def data_record(self) -> DataRecord | None:
        """The record of the run's data; None if the run was made before there were such records."""
        return DataRecord.read(self.directory) if self.config.run_dir else None

    @property
    def bit_widths(self) -> tuple[Bits, ...]:
        """The bit widths of the run's supernets: `bits` of the settings, or only `MIXED`."""
        return (MIXED,) if self.space.mixed else self.config.bits

    def stage(self, name: str) -> TrainingStage:
        """The stage of this run's schedule with this name; raises `UserError` if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(f"stage: expected one of {[s.name for s in self.stages]}, received {name!r}")

    def steps(self, stage: TrainingStage) -> int:
        """The number of training steps of a stage."""
        return total_steps(stage, len(self.dataset.train), self.config.batch_size)

    def checkpoints(self, stage: TrainingStage) -> checkpoint.Checkpoints:
        """The `Checkpoints` of a stage."""
        return checkpoint.Checkpoints(self.directory / "checkpoints" / stage.name)

    def refuse_other(self, meta: dict[str, Any], where: str) -> None:
        """Raises `UserError` if a checkpoint was made with other settings, or in another space.

        Args:
            meta: what the checkpoint says of itself, see `about`.
            where: name of the checkpoint, for messages.
        """
        made = made_with(meta, where)
        self.config.refuse_if_different(made["config"], where)
        theirs = made.get("space", self.space)  # older checkpoints have none
        if theirs != self.space:
            raise UserError(
                f"{where} was trained in another space than {self.directory / 'space.json'}: "
                f"{self.space.difference(theirs)}: restore that file, or give another `run_dir`"
            )
        refuse_other_classes(made, self.dataset, where)

    def about(self, stage: TrainingStage) -> dict[str, Any]:
        """What a checkpoint of a stage says of itself, JSON data."""
        return {
            "stage": stage_record(stage),
            "config": plain(self.config),
            "space": json.loads(self.space.to_json()),
            "class_names": list(self.dataset.class_names),
        }

    def log(self, **record: Any) -> None:
        """Appends a record to `log.jsonl`."""
        if self.writes:
            append_jsonl(self.directory / "log.jsonl", {"time": round(time.time(), 3), **record})


def refuse_other_classes(made: Made, dataset: DataSet, where: str) -> None:
    """Raises `UserError` if a checkpoint says that it knows other classes than a data set, or in another order."""
    theirs, ours = tuple(made.get("class_names", dataset.class_names)), dataset.class_names
    if theirs != ours:
        what = "the same classes in another order" if set(theirs) == set(ours) else "other classes"
        pairs = (pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1])
        one, other = next(pairs, (len(theirs), len(ours)))
        raise UserError(f"{where} was trained on {what} than {dataset.name} has, first {one} instead of {other}")


def made_with(meta: dict[str, Any], where: str) -> Made:
    """What a checkpoint says of itself; raises `RecordError` if that is damaged."""
    return conform(meta, Annotated[Made, Open()], where)


def _read_config(path: pathlib.Path) -> RunConfig:
    return RunConfig.from_json(read_regular(path), str(path))


def _with_float_supernet(config: RunConfig, kept: RunConfig, directory: pathlib.Path) -> RunConfig:
    """The settings with the float supernet that was added to a run, so that the run's first command still works.

    Args:
        config: settings of the command.
        kept: settings of the run.
        directory: directory of that supernet's checkpoints.

    Raises:
        UserError: its training has begun with other settings.
    """
    names = ("float_supernet_epochs", "float_supernet_learning_rate")
    if not config.float_supernet_epochs:
        return dataclasses.replace(config, **{name: getattr(kept, name) for name in names})
    for name in names:
        ours, theirs = getattr(config, name), getattr(kept, name)
        if ours != theirs and checkpoint.Checkpoints(directory).files():
            raise UserError(
                f"{directory} was made with `{name}={theirs}`, this command has `{name}={ours}`: give the same value, "
                "or remove that directory to train the float supernet anew"
            )
    return config


def stage_record(stage: TrainingStage) -> dict[str, Any]:
    """The record of a stage in its checkpoints."""
    return {**dataclasses.asdict(stage), "arch": stage.arch and stage.arch.key}
