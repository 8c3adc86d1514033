"""Compares bit inheritance with direct quantization-aware training on your data, as Table 1 of OQA does.

    python studies/inheritance.py --flagfile=studies/fashion_study.cfg

Trains the same network, or the same supernet, to 3 and to 2 bits in several ways, from one floating-point network:

inherit      4 -> 3 -> 2 bits by bit inheritance, each with its own epochs and only soft labels of the bit width above
hard         the same with labels only
half         the same with soft labels and labels, half each, as in tools/train.py
direct_own   from floating point, with the epochs of that bit width's own stage
direct_kd    the same with soft labels from the floating-point network
direct_all   from floating point, with as many epochs as the whole inherited chain together

The ways inherit, direct_own and direct_all run with every learning rate of `--rates` at the first seed. The rate with
the best held-out accuracy is used for the other seeds. The other ways are variants of these and use their rates. Each
training is a stage of a run directory (`RUN_DIR/s0`), and the same command continues a study that was stopped. With
`--workers` trainings run in parallel, each on its own cores.

Writes `study.json`, `study.md` and `study.png` in the run directory.

Results: docs/results/inheritance.md.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import queue
import subprocess
import sys
import time

import numpy as np

from tfqnas import report, spaces
from tfqnas.cli import command
from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl, write_atomically, write_json
from tfqnas.progress import Progress
from tfqnas.settings import first_difference, plain, setting
from tfqnas.train.run_config import RunConfig
from tfqnas.train.stages import TrainingStage

WAYS = ("inherit", "hard", "half", "direct_own", "direct_kd", "direct_all")


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What is compared; the rest is as in a run. `hard` and `half` need `inherit`, `direct_kd` needs `direct_own`."""

    seeds: tuple[int, ...] = setting((0, 1), "seeds; the learning rates are chosen at the first", fixed=False)
    rates: tuple[float, ...] = setting((0.03, 0.1), "learning rates to choose from, the same for every way")
    ways: tuple[str, ...] = setting(WAYS, "what to compare", fixed=False)
    sampling: str = setting("largest", "largest: one network; sandwich: the whole supernet")
    workers: int = setting(1, "trainings side by side", fixed=False)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to one bit width.

    `init`: the arm it starts from; None: the floating-point network. `like`: the arm whose learning rate it takes;
    None: it is tuned.
    """

    name: str
    bits: int
    epochs: float
    init: str | None
    soft: str | None  # "init", "in_place" or None
    weight: float | None = None
    like: str | None = None


def arms(config, study):
    """All arms, each after the one it starts from."""
    in_place = "in_place" if study.sampling == "sandwich" else None
    found, chain, above = [], 0.0, {}
    for bits in config.bits:
        own = config.for_bits("supernet_epochs", bits)
        chain += own
        if not above:
            found.append(Arm(f"b{bits}", bits, own, None, in_place))
            above = dict.fromkeys(("inherit", "hard", "half"), f"b{bits}")
            continue
        for way, soft, weight in (("inherit", "init", 1.0), ("hard", in_place, None), ("half", "init", 0.5)):
            if way in study.ways:
                like = None if way == "inherit" else f"inherit_b{bits}"
                found.append(Arm(f"{way}_b{bits}", bits, own, above[way], soft, weight, like))
                above[way] = f"{way}_b{bits}"
        direct = (("direct_own", own, in_place), ("direct_kd", own, "init"), ("direct_all", chain, in_place))
        for way, epochs, soft in direct:
            if way in study.ways:
                like = f"direct_own_b{bits}" if way == "direct_kd" else None
                found.append(Arm(f"{way}_b{bits}", bits, epochs, None, soft, 1.0 if soft == "init" else None, like))
    return found


class Study:
    """The trainings, what they depend on, and what came out.

    Args:
        config: `RunConfig`. study: `StudyConfig`.
    """

    def __init__(self, config, study):
        self.config, self.study = config, study
        self.directory = pathlib.Path(config.run_dir)
        self.arms = {arm.name: arm for arm in arms(config, study)}

    def run_config(self, seed):
        space = str(self.directory / "space.json")
        return dataclasses.replace(self.config, seed=seed, space=space, run_dir=str(self.directory / f"s{seed}"))

    def begin(self):
        """Writes settings and space, or refuses those of another study in the same directory.

        One network is a space with one choice: it has no conditionals to trace.
        """
        path = self.directory / "study_config.json"
        if path.exists() and (difference := first_difference(self.study, read_json(path))):
            name, ours, theirs = difference
            raise UserError(
                f"{path} was made with `{name}={theirs}`, this study has `{name}={ours}`: give the same "
                "value, or another `run_dir`"
            )
        write_json(path, plain(self.study))
        space = spaces.get(self.config.space)
        if self.study.sampling == "largest":
            space = space.pruned(space.largest())
        write_atomically(self.directory / "space.json", space.to_json() + "\n")

    def tasks(self):
        """(seed, arm or "float", rate or None) of every training; rates other than the first seed's come later."""
        for seed in self.study.seeds:
            yield seed, "float", None
            for name, arm in self.arms.items():
                tuned = seed == self.study.seeds[0] and arm.like is None
                for rate in self.study.rates if tuned else (None,):
                    yield seed, name, rate

    def records(self, seed):
        """What each stage of a seed has logged: `{stage: {event: record}}`."""
        found = {}
        for record in read_jsonl(self.directory / f"s{seed}" / "log.jsonl"):
            if "event" in record:
                events = found.setdefault(record["stage"], {})
                first = record["event"] == "evaluated"  # of several looks the first one, after one epoch
                events[record["event"]] = events.get(record["event"], record) if first else record
        return found

    def finished(self, seed, stage):
        return "tested" in self.records(seed).get(stage, {})

    def best_rate(self, arm):
        """The rate of the first seed with the best held-out accuracy, or None where some are not done."""
        arm = self.arms[arm].like or arm
        records = self.records(self.study.seeds[0])
        stages = {rate: records.get(stage_name(arm, rate), {}) for rate in self.study.rates}
        if not all("tested" in events for events in stages.values()):
            return None
        return max(stages, key=lambda rate: stages[rate]["finished"]["held_out"]["largest"])

    def ready(self, seed, arm, rate):
        """The stage name of a task that can begin now, or None."""
        if arm == "float":
            return "float"
        rate = self.best_rate(arm) if rate is None else rate
        parent = self.arms[arm].init
        if rate is None or (parent and self.best_rate(parent) is None):
            return None  # a rate is still to be chosen
        before = stage_name(parent, self.best_rate(parent)) if parent else "float"
        return stage_name(arm, rate) if self.finished(seed, before) else None

    def stages(self, stage):
        """The stage of that name and those it starts from, the first one last."""
        if stage == "float":
            return [TrainingStage("float", None, self.config.float_epochs, self.config.float_learning_rate, "largest")]
        arm = self.arms[stage.partition("-")[0]]
        init = stage_name(arm.init, self.best_rate(arm.init)) if arm.init else "float"
        soft = init if arm.soft == "init" else arm.soft
        rate = float(stage.partition("-lr")[2])
        own = TrainingStage(stage, arm.bits, arm.epochs, rate, self.study.sampling, soft, init, None, arm.weight)
        return [own, *self.stages(init)]

    def work(self, arm):
        epochs = self.config.float_epochs if arm == "float" else self.arms[arm].epochs
        return epochs + 1.0  # one for traces and evaluation


def stage_name(arm, rate):
    return f"{arm}-lr{rate:g}"


def train_one(study, seed, stage):
    """One training, in this process."""
    command.import_tensorflow()
    from tfqnas.locks import writer
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    class OneStage(Run):
        """Trainings of one seed share a directory, and each writes to that of its stage."""

        def writing(self):
            return writer(self.directory / "checkpoints" / stage, "task")

    config = study.run_config(seed)
    # The first training of a seed, in floating point, runs alone and makes the directory.
    run = OneStage(config) if (pathlib.Path(config.run_dir) / "config.json").exists() else OneStage.create(config)
    own, *others = study.stages(stage)
    run.stages = (*reversed(others), own)
    train(run, run.costs.progress([own]), stages=[own])
    supernet = run.networks.trained.get(stage) or run.networks.load(own)
    archs = {"largest": run.space.largest()}
    if study.study.sampling == "sandwich" and own.bits:
        archs["smallest"] = run.space.smallest()
    run.log(
        stage=stage,
        event="tested",
        test={k: run.evaluator.accuracy(supernet, arch, "test") for k, arch in archs.items()},
    )


def train_all(study):
    """Every training, in processes of their own."""
    workers = study.study.workers
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))
    slots = queue.SimpleQueue()
    for i in range(workers):
        slots.put(cores[i::workers] if workers <= len(cores) else cores)
    waiting = list(study.tasks())
    total, done = sum(study.work(arm) for _, arm, _ in waiting), 0.0

    def start(seed, stage):
        own = slots.get()
        log = study.directory / "logs" / f"s{seed}-{stage}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, *sys.argv[1:], f"--task={seed}/{stage}"]
        try:
            with open(log, "w") as out:
                child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
                if hasattr(os, "sched_setaffinity"):
                    os.sched_setaffinity(child.pid, own)
                if child.wait():
                    raise UserError(f"seed {seed}, {stage} failed: see {log}")
        finally:
            slots.put(own)

    progress = Progress([("study", total)])
    with progress.part("study") as part, concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {}
        first = True
        while waiting or running:
            for task in list(waiting):
                stage = study.ready(*task)
                if stage is None:
                    continue
                if study.finished(task[0], stage):
                    waiting.remove(task)
                    done += study.work(task[1])
                    if first:
                        part.resume(done / total)
                elif len(running) < workers:
                    waiting.remove(task)
                    running[pool.submit(start, task[0], stage)] = (*task, stage, time.monotonic())
            first = False
            if not running:
                continue
            ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                seed, arm, _, stage, began = running.pop(future)
                future.result()
                done += study.work(arm)
                value = study.records(seed)[stage]["finished"]["held_out"]["largest"]
                progress.log(f"seed {seed}, {stage}: {value:.1%} held-out, {time.monotonic() - began:.0f} s")
                part.update(done / total, f"{len(waiting) + len(running)} trainings to go")


# What came out ------------------------------------------------------------------------------------------------


def summary(study):
    """One record an arm, with the accuracies of every seed."""
    found = []
    for name, arm in study.arms.items():
        rate = study.best_rate(name)
        stage = stage_name(name, rate)
        events = [study.records(seed)[stage] for seed in study.study.seeds]
        began = [e.get("inherited") or e.get("quantized") for e in events]
        row = {
            "arm": name,
            "bits": arm.bits,
            "epochs": arm.epochs,
            "rate": rate,
            "before": [b["accuracy"] for b in began],
            "one_epoch": [e["evaluated"]["held_out"]["largest"] if "evaluated" in e else None for e in events],
            "held_out": [e["finished"]["held_out"]["largest"] for e in events],
            "test": [e["tested"]["test"]["largest"] for e in events],
            "seconds": [e["finished"]["seconds"] for e in events],
        }
        if "smallest" in events[0]["tested"]["test"]:
            row["test_smallest"] = [e["tested"]["test"]["smallest"] for e in events]
        found.append(row)
    return found


def cell(values):
    """Mean of the seeds and half their range, in percent."""
    if any(v is None for v in values):
        return ""
    values = 100 * np.array(values)
    spread = f" ± {(values.max() - values.min()) / 2:.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def table(rows):
    columns = {"before": "before training", "one_epoch": "after one epoch", "held_out": "end", "test": "end, test"}
    if any("test_smallest" in row for row in rows):
        columns["test_smallest"] = "smallest, test"
    lines = ["| bits | way | epochs | rate | " + " | ".join(columns.values()) + " |", "|---" * (4 + len(columns)) + "|"]
    for row in sorted(rows, key=lambda row: -row["bits"]):
        way = row["arm"].rpartition("_b")[0] or "from float"
        numbers = " | ".join(cell(row.get(key, [None])) for key in columns)
        lines.append(f"| {row['bits']} | {way} | {row['epochs']:g} | {row['rate']:g} | {numbers} |")
    return "\n".join(lines) + "\n"


def picture(rows, path, title):
    panels = {}
    for row in sorted(rows, key=lambda row: -row["bits"]):
        way = row["arm"].rpartition("_b")[0]
        if way:
            values = [100 * value for value in row["test"]]
            entry = (f"{way}, {row['epochs']:g} epochs", values, way == "inherit")
            panels.setdefault(f"{row['bits']} bits", []).append(entry)
    report.dots_figure(panels, path, title, "test accuracy, %, a dot a seed")


FLAGS = command.Flags()
command.define_flags(RunConfig, FLAGS)
command.define_flags(StudyConfig, FLAGS)
TASK = FLAGS.string("task", "", "SEED/STAGE: this training alone; used by the study itself")


def main():
    config, study_config = command.from_flags(RunConfig, FLAGS), command.from_flags(StudyConfig, FLAGS)
    study = Study(config, study_config)
    if not config.run_dir or config.bits[0] == config.bits[-1] or not config.float_epochs:
        raise UserError("expected `run_dir`, at least two `bits` and `float_epochs` above 0")
    if TASK.value:
        seed, _, stage = TASK.value.partition("/")
        train_one(study, int(seed), stage)
        return
    study.begin()
    train_all(study)
    rows = summary(study)
    write_json(study.directory / "study.json", rows)
    write_atomically(study.directory / "study.md", table(rows))
    what = "one network" if study_config.sampling == "largest" else "the supernet's largest network"
    picture(rows, study.directory / "study.png", f"{config.dataset}, {config.space}: {what}")
    print(table(rows))
    print(f"{study.directory}/study.md, study.json, study.png")


if __name__ == "__main__":
    command.run(sys.modules[__name__])
