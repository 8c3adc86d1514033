"""Prints the accuracy of a saved model, or of a subnet of a trained supernet, on a split of a data set.

tfqnas evaluate --model=runs/digits/models/b2_largest.keras --dataset=digits
tfqnas evaluate --run_dir=runs/digits --bits=2 --arch=runs/digits/search/b2/pareto.json#3
tfqnas evaluate --checkpoint=runs/digits/checkpoints/largest_b4 --arch=largest
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfqnas.cli import command
from tfqnas.data.data_config import DataConfig
from tfqnas.errors import SettingError, UserError

if TYPE_CHECKING:
    from tfqnas.runs.run import Run
    from tfqnas.supernet import Supernet

FLAGS = command.Flags()
MODEL = FLAGS.string("model", None, "a .keras file")
command.define_flags(DataConfig, FLAGS)  # of `model`; a run has its own
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
        data = command.from_flags(DataConfig, FLAGS)
    else:
        command.refuse(command.fields_of(DataConfig), "with a run, which has its own data", "`model`")
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


def score_model(config: DataConfig) -> str:
    from tfqnas.data.dataset import load
    from tfqnas.data.images import EvaluationImages
    from tfqnas.runs import model_files
    from tfqnas.train.calibrate import accuracy

    model = model_files.load_model(MODEL.value)
    record = model_files.model_record(MODEL.value, model)
    if not FLAGS["evaluation_crop"].present:
        config = dataclasses.replace(config, evaluation_crop=record["evaluation_crop"])
    dataset = model_files.fitting(model, record, load(config, held_out=1))
    if SPLIT.value == "test":
        model_files.refuse_trained_on(MODEL.value, dataset)
    images = EvaluationImages(dataset.split(SPLIT.value), model.input_shape[1], config.evaluation_crop, memory=1e9)
    result = accuracy(model_files.model_logits(model, images), images.labels)
    return f"{MODEL.value}: {result:.2%} of {len(images)} {SPLIT.value} images of {config.dataset}"


def score_subnet(run: Run, supernet: Supernet, where: str) -> str:
    from tfqnas.runs import model_files

    arch = model_files.read_arch(run.space, ARCH.value)
    result = run.evaluator.accuracy(supernet, arch, SPLIT.value)
    count = len(run.dataset.split(SPLIT.value))
    return f"{arch.key} in {where}: {result:.2%} of {count} {SPLIT.value} images of {run.config.dataset}, recalibrated"
