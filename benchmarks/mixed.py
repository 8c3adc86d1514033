"""Compares BatchQuant with LSQ for the inputs of a mixed supernet, to test QFA's claim of stable joint training.

    python benchmarks/mixed.py --flagfile=digits_qfa --run_dir=runs/digits_mixed --seeds=0,1
    python benchmarks/mixed.py --flagfile=fashion_qfa --run_dir=runs/fashion_mixed

Trains the same supernet by the same schedule twice for each seed, once with each quantizer, and scores the same random
mixtures of each on held-out images, with BatchNorm and ranges estimated again. Shows their training curves (the loss of
the random subnets and of the smallest) and the distribution of their accuracies side by side. A training that diverges
is reported. The same command continues a study that was stopped.

Writes `mixed.json`, `mixed.md` and `mixed.png` in the run directory.
"""

import dataclasses
import pathlib
import sys

import numpy as np

from tfqnas import report
from tfqnas.cli import command
from tfqnas.errors import SettingError, TrainingDivergedError
from tfqnas.files import append_jsonl, read_jsonl, write_atomically, write_json
from tfqnas.search.search_config import SearchConfig
from tfqnas.settings import setting
from tfqnas.train.run_config import RunConfig

QUANTIZERS = {"batch_quant": "BatchQuant", "lsq": "LSQ"}


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What is compared."""

    seeds: tuple[int, ...] = setting((0, 1), "seeds of the trainings")
    subnets: int = setting(100, "random mixtures that are scored in each supernet")


def trained(config, progress):
    """The `Run` of these settings, trained to its end; None where it diverged."""
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    run = Run.create(config)
    try:
        train(run, progress)
    except TrainingDivergedError as error:
        progress.log(f"diverged: {error}")
        return None
    return run


def accuracies(run, archs, part):
    """Held-out accuracies of subnets, kept in the run directory."""
    from tfqnas.runs.scoring import scorer_of
    from tfqnas.train.stages import MIXED

    path = run.directory / "mixtures.jsonl"
    known = {record["arch"]: record["accuracy"] for record in read_jsonl(path)} if path.exists() else {}
    missing = [arch for arch in archs if arch.key not in known]
    if missing:
        for done, (index, score) in enumerate(scorer_of(run, run.networks.supernet(MIXED)).score(missing), 1):
            known[missing[index].key] = score.accuracy
            append_jsonl(path, {"arch": missing[index].key, "accuracy": score.accuracy})
            part.update(done / len(missing), f"{done} of {len(missing)} mixtures")
    return [known[arch.key] for arch in archs]


def curves(run):
    """`(steps, losses of the random subnets, losses of the smallest)` of both phases in a row, from the log."""
    records = [r for r in read_jsonl(run.directory / "log.jsonl") if "losses" in r and "mixed" in r["stage"]]
    steps, offset, before = [], 0, 0
    for record in records:
        offset, before = (offset + before if record["step"] <= before else offset), record["step"]
        steps.append(offset + record["step"])
    random, smallest = ([np.mean(r["losses"][2:]) for r in records], [r["losses"][1] for r in records])
    return steps, random, smallest


def summary(name, seed, values):
    values = 100 * np.array(values)
    low, middle, high = np.percentile(values, (5, 50, 95))
    return {
        "inputs": name,
        "seed": seed,
        "mean": values.mean(),
        "deviation": values.std(),
        "lowest": values.min(),
        "p5": low,
        "median": middle,
        "p95": high,
    }


def table(rows):
    columns = {
        "mean": "mean",
        "deviation": "standard deviation",
        "lowest": "worst",
        "p5": "5%",
        "median": "median",
        "p95": "95%",
    }
    lines = ["| inputs | seed | " + " | ".join(columns.values()) + " |", "|---" * (2 + len(columns)) + "|"]
    for row in rows:
        numbers = " | ".join("diverged" if row["mean"] is None else f"{row[key]:.1f}" for key in columns)
        lines.append(f"| {QUANTIZERS[row['inputs']]} | {row['seed']} | {numbers} |")
    return "\n".join(lines) + "\n"


FLAGS = command.Flags()
command.define_flags(RunConfig, FLAGS)
command.define_flags(StudyConfig, FLAGS)
command.define_flags(SearchConfig, FLAGS, read_by=("tfqnas search", "tfqnas run"))  # flagfiles of runs have them


def main():
    config, study = command.from_flags(RunConfig, FLAGS), command.from_flags(StudyConfig, FLAGS)
    if not config.run_dir:
        raise SettingError("run_dir", "a directory for the study", "")
    command.import_tensorflow()
    from tfqnas.progress import Progress

    directory, rows, series = pathlib.Path(config.run_dir), [], []
    for seed in study.seeds:
        for name in QUANTIZERS:
            own = dataclasses.replace(config, seed=seed, mixed_inputs=name, run_dir=str(directory / f"{name}_s{seed}"))
            from tfqnas.runs.run import Run

            stages = Run(own).stages
            progress = Progress([*((stage.name, Run(own).costs.work(stage)) for stage in stages), ("mixtures", 1.0)])
            print(f"{QUANTIZERS[name]}, seed {seed}: {own.run_dir}")
            run = trained(own, progress)
            if run is None:
                rows.append({"inputs": name, "seed": seed, "mean": None})
                continue
            rng = np.random.default_rng(7)
            archs = [run.space.sample(rng) for _ in range(study.subnets)]
            with progress.part("mixtures") as part:
                values = accuracies(run, archs, part)
            rows.append(summary(name, seed, values))
            series.append({"label": QUANTIZERS[name], "seed": seed, "curves": curves(run), "values": values})
    write_json(directory / "mixed.json", rows)
    write_atomically(directory / "mixed.md", table(rows))
    report.stability_figure(series, directory / "mixed.png", f"{config.dataset}, {config.space}")
    print(table(rows))
    print(f"{directory}/mixed.md, mixed.json, mixed.png")


if __name__ == "__main__":
    command.run(sys.modules[__name__])
