"""Makes the analyses of a run. They are scored together, written to `analysis/`, and shown in the report."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.errors import SettingError, UserError, as_text
from tfqnas.files import read_json, write_json
from tfqnas.progress import Part, Progress
from tfqnas.runs.analyses import alone, depth, drop, ranking
from tfqnas.runs.analyses import transfer as transfer_analysis
from tfqnas.runs.analyses.analysis_config import NAMES, AnalysisConfig
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.runs.run import Run
from tfqnas.runs.searching import FrontSearch
from tfqnas.runs.training import train
from tfqnas.supernet import Supernet
from tfqnas.train.stages import Bits, TrainingStage, label


class Analysis(Protocol):
    """The contents of the module of an analysis."""

    NAME: str  # the name of its files and its setting
    KIND: Any  # the type of its result, see `tfqnas.records`

    def obstacle(self, supernets: Supernets, config: AnalysisConfig) -> str | None:
        """The reason why the analysis cannot be made, or None."""

    def wants(self, supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
        """`(split, architectures)` of the subnets that must be scored at a bit width."""

    def result(self, supernets: Supernets, config: AnalysisConfig) -> Any:
        """The result as JSON data, computed from scores; empty if there is none."""

    def draw(self, result: Any, path: Path) -> None:
        """Draws the figure of a result, a PNG file."""

    def section(self, result: Any, picture: Path) -> report.Section:
        """The section of the report with a result and its picture."""


_MODULES: tuple[Analysis, ...] = (transfer_analysis, drop, depth, ranking, alone)
ANALYSES = {module.NAME: module for module in _MODULES}


def analyse(run: Run, config: AnalysisConfig) -> list[report.Section]:
    """Makes the analyses of the given settings. A stopped call continues from its stored scores.

    Every supernet is loaded once, and scores the subnets of all analyses.

    Args:
        run: `Run` with trained supernets.
        config: `AnalysisConfig`.

    Returns:
        The `report.Section`s of the analyses that were made.

    Raises:
        UserError: an analysis named by `only` cannot be made, or none can.
    """
    with run.writing():
        return _analysed(run, config)


def _analysed(run: Run, config: AnalysisConfig) -> list[report.Section]:
    if config.alone_bits not in (0, *run.bit_widths):
        expected = f"one of this run's {as_text(run.bit_widths)}, or 0 for the highest"
        raise SettingError("alone_bits", expected, config.alone_bits)
    if config.float_supernet_epochs:
        run = run.with_float_supernet(config.float_supernet_epochs, config.float_supernet_learning_rate)
    supernets = Supernets(run)
    chosen = _chosen(supernets, config)
    missing = [stage for stage in run.stages if stage.bits is None and stage.sampling == "sandwich"]
    missing = [stage for stage in missing if not run.networks.finished(stage)]
    trainings = alone.trainings(supernets, config) if "alone" in chosen else []
    progress = _progress(supernets, config, chosen, missing, trainings)
    if missing:
        train(run, progress, stages=missing)
    if (search := _float_search(supernets, chosen)) is not None:
        with progress.part("search_float") as part:
            search(part, run.networks.supernet(None))
    for bits in supernets.bits:
        _score(supernets, config, chosen, bits, progress)
    for training in trainings:
        training.train(progress)
    return [_write(supernets, config, name) for name in chosen]


def transfer(run: Run, bits: Bits, part: Part, supernet: Supernet) -> None:
    """Scores the fronts of supernets with more bits in this supernet, for `conclude`.

    Args:
        run: `Run`.
        bits: bit width of the supernet, which has been searched.
        part: a part of a `Progress`.
        supernet: `Supernet`.
    """
    supernets = Supernets(run)
    moved = dict(ANALYSES["transfer"].wants(supernets, AnalysisConfig(), bits))["held_out"]
    count, done = len(supernets.missing(bits, moved)), []

    def on_score(arch: Arch) -> None:
        done.append(arch)
        part.update(part.fraction, f"fronts of higher bit widths at {bits} bits, {len(done)} of {count}")

    supernets.score_plainly(bits, moved, supernet, on_score)


def conclude(run: Run) -> None:
    """Writes the analyses that need only searches: fronts at lower bit widths, and the depth along fronts."""
    supernets, config = Supernets(run), AnalysisConfig()
    if ANALYSES["transfer"].result(supernets, config):
        _write(supernets, config, "transfer")
    if ANALYSES["depth"].obstacle(supernets, config) is None:
        _write(supernets, config, "depth")


def sections(run: Run) -> list[report.Section]:
    """The `report.Section`s of all analyses that were made for a run, in the order of `NAMES`."""
    found = [(name, run.directory / "analysis" / f"{name}.json") for name in NAMES]
    return [_section(run, name, read_json(path, ANALYSES[name].KIND)) for name, path in found if path.exists()]


def _chosen(supernets: Supernets, config: AnalysisConfig) -> list[str]:
    """Names of the analyses to make, in the order of `NAMES`."""
    chosen = []
    for name in NAMES:
        obstacle = ANALYSES[name].obstacle(supernets, config)
        if obstacle and name in config.only:
            raise UserError(f"`only={name}`: {obstacle}")
        if not obstacle and name in (config.only or NAMES):
            chosen.append(name)
    if not chosen:
        raise UserError(f"{supernets.run.directory}: {ANALYSES['ranking'].obstacle(supernets, config)}")
    return chosen


def _float_search(supernets: Supernets, chosen: Sequence[str]) -> FrontSearch | None:
    """The search of the float supernet, or None if its front is not wanted or cannot be searched."""
    return supernets.float_search if {"transfer", "depth"} & set(chosen) else None


def _wanted(supernets: Supernets, config: AnalysisConfig, chosen: Sequence[str], bits: Bits) -> dict[str, list[Arch]]:
    """`{split: architectures}` that the analyses want scored at a bit width."""
    wanted: dict[str, list[Arch]] = {"held_out": [], "test": []}
    for name in chosen:
        for split, archs in ANALYSES[name].wants(supernets, config, bits):
            wanted[split] += archs
    return wanted


def _score(supernets: Supernets, config: AnalysisConfig, chosen: Sequence[str], bits: Bits, progress: Progress) -> None:
    wanted = _wanted(supernets, config, chosen, bits)
    missing = {split: supernets.missing(bits, archs, split) for split, archs in wanted.items()}
    count, done = sum(map(len, missing.values())), 0
    name = f"score_{label(bits)}"
    if not count:
        progress.skip(name)
        return
    with progress.part(name) as part:
        part.update(0.0, "loading the supernet")

        def on_score(arch: Arch) -> None:
            nonlocal done
            done += 1
            if done == 1:  # its time includes tracing, so it is left out of the rate
                part.resume(1 / count)
            part.update(done / count, f"{done} of {count} subnets")

        for split, archs in missing.items():
            supernets.score(bits, archs, split, on_score)


def _progress(
    supernets: Supernets,
    config: AnalysisConfig,
    chosen: Sequence[str],
    missing: Sequence[TrainingStage],
    trainings: Sequence[alone.Training],
) -> Progress:
    """A `Progress` of all work, without the scores of a float supernet's front, which is not known yet.

    `missing` are the stages to train first, `trainings` those of subnets alone.
    """
    parts = [(stage.name, supernets.run.costs.work(stage)) for stage in missing]
    if (search := _float_search(supernets, chosen)) is not None:
        ends = [supernets.run.space.smallest(), supernets.run.space.largest()]
        parts.append(("search_float", search.budget * supernets.work(ends) / 2))
    for bits in supernets.bits:
        wanted = _wanted(supernets, config, chosen, bits)
        work = sum(supernets.work(supernets.missing(bits, archs, split), split) for split, archs in wanted.items())
        parts.append((f"score_{label(bits)}", max(work, 1.0)))
    return Progress(
        [*parts, *((training.stage.name, training.run.costs.work(training.stage)) for training in trainings)]
    )


def _write(supernets: Supernets, config: AnalysisConfig, name: str) -> report.Section:
    """Writes result and picture of an analysis, and returns its section."""
    module, path = ANALYSES[name], supernets.directory / f"{name}.json"
    write_json(path, module.result(supernets, config))
    found = read_json(path, module.KIND)
    module.draw(found, _picture(supernets.run, name))
    return _section(supernets.run, name, found)


def _section(run: Run, name: str, found: Any) -> report.Section:
    return ANALYSES[name].section(found, _picture(run, name))


def _picture(run: Run, name: str) -> Path:
    return run.directory / "analysis" / f"{name}.png"


def in_text(found: Iterable[report.Section]) -> str:
    """The headings, tables and paragraphs of sections as text."""
    lines = []
    for section in found:
        lines.append(f"\n{section.heading}\n{'=' * len(section.heading)}")
        for item in section.items:
            if isinstance(item, report.Table):
                lines.append(f"\n{report.table(item.rows, item.columns)}\n")
            elif isinstance(item, str):
                lines.append(item)
    return "\n".join(lines)
