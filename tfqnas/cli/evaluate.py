"""Prints the score of a saved model, or the accuracy of a subnet of a trained supernet, on a split of a data set.

tfqnas evaluate --model=runs/digits/models/b2_largest.keras --dataset=digits
tfqnas evaluate --model=runs/scenes.keras --dataset=scenes/  # a folder of images and masks
tfqnas evaluate --run_dir=runs/digits --bits=2 --arch=runs/digits/search/b2/pareto.json#3
tfqnas evaluate --checkpoint=runs/digits/checkpoints/largest_b4 --arch=largest
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfqnas.cli import command
from tfqnas.errors import SettingError, UserError
from tfqnas.tasks import TaskConfig, examples_of

if TYPE_CHECKING:
    from tfqnas.runs.run import Run
    from tfqnas.supernet import Supernet

FLAGS = command.Flags()
MODEL = FLAGS.string("model", None, "a .keras file")
REFERENCE = FLAGS.string("reference", None, "a .keras file, the float model whose outputs are compared")
command.define_flags(TaskConfig, FLAGS)  # of `model`; a run has its own
RUN_DIR = FLAGS.string("run_dir", None, "run directory, to score a subnet of one of its trained supernets")
BITS = FLAGS.string("bits", None, "bit width of the supernet in `run_dir`, or mixed")
CHECKPOINT = FLAGS.string("checkpoint", None, "checkpoint file, or directory of a stage (the newest)")
ARCH = FLAGS.string("arch", "largest", "subnet: largest, smallest, FILE.json, FILE.json#ROW or JSON")
SPLIT = FLAGS.enum("split", "test", ["test", "held_out", "train"], "split to score on")


def main() -> None:
    if sum(bool(source.value) for source in (MODEL, RUN_DIR, CHECKPOINT)) != 1:
        raise UserError("expected one of `model`, `run_dir` and `checkpoint`")
    if MODEL.value:
        command.refuse(["arch"], "with `model`", "`run_dir` and `checkpoint`")
        if SPLIT.value == "held_out":
            raise SettingError("split", "test or train with `model`", SPLIT.value)
        data = command.from_flags(TaskConfig, FLAGS)
    else:
        of_models = [REFERENCE.name, *command.fields_of(TaskConfig)]
        command.refuse(of_models, "with a run, which has its own data", "`model`")
    if not RUN_DIR.value:
        command.refuse(["bits"], "without `run_dir`", "`run_dir`")
    elif BITS.value is None:
        raise SettingError("bits", "the bit width of the supernet in `run_dir`, or mixed", "")
    command.import_tensorflow()
    from tfqnas.runs.run import Run
    from tfqnas.train.stages import supernet_stage

    if MODEL.value:
        print(score_model(data))
    elif CHECKPOINT.value:
        print(score_subnet(*Run.of_checkpoint(CHECKPOINT.value)))
    else:
        run = Run.existing(RUN_DIR.value)
        bits = command.bit_width(run, "bits", BITS.value)
        print(score_subnet(run, run.networks.supernet(bits), supernet_stage(bits)))


def score_model(config: TaskConfig) -> str:
    from tfqnas.runs import model_files
    from tfqnas.tasks.classification import Labelled
    from tfqnas.zoo.upscaling import score

    model = model_files.load_model(MODEL.value)
    reference = model_files.load_model(REFERENCE.value) if REFERENCE.value else None
    record = model_files.model_record(MODEL.value, model)
    if not FLAGS["evaluation_crop"].present:
        config = dataclasses.replace(config, evaluation_crop=record["evaluation_crop"])
    examples = examples_of(model, config, score=score, class_names=record.get("class_names"))
    for names, why, others in examples.unread:
        command.refuse(names, why, others)
    if SPLIT.value == "test" and isinstance(examples, Labelled) and examples.dataset is not None:
        model_files.refuse_trained_on(MODEL.value, examples.dataset)
    task = examples.task
    found = examples.evaluate(model, reference, SPLIT.value)
    if not found:
        raise UserError(f"expected `reference`, a model to compare with: {config.dataset} says nothing of the outputs")
    first = ""
    if task.metric in found:
        first = " ".join(filter(None, [task.shown(found.pop(task.metric)), task.words, "of "]))
    more = "".join(f", {name} {value:.4f}" for name, value in found.items())
    return f"{MODEL.value}: {first}{examples.count(SPLIT.value)} {SPLIT.value} images of {config.dataset}{more}"


def score_subnet(run: Run, supernet: Supernet, where: str) -> str:
    from tfqnas.runs import model_files

    arch = model_files.read_arch(run.space, ARCH.value)
    result = run.evaluator.accuracy(supernet, arch, SPLIT.value)
    count = len(run.dataset.split(SPLIT.value))
    return f"{arch.key} in {where}: {result:.2%} of {count} {SPLIT.value} images of {run.config.dataset}, recalibrated"
