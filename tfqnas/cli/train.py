"""Trains one supernet for each bit width, from the highest down, in a run directory.

    tfqnas train --flagfile=digits_oqa --run_dir=runs/digits

The same command continues a run that was stopped. The next command finetunes and exports a single subnet:

    tfqnas train --run_dir=runs/digits --finetune_arch=runs/digits/search/b2/pareto.json#3 \\
        --finetune_bits=2 --finetune_epochs=5 --finetune_learning_rate=0.01 --integer_aware

Its soft labels come from the supernet's largest network. With --integer_aware the training computes the same as the
exported file. The model is added to the table in report.html.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfqnas.cli import command
from tfqnas.errors import SettingError, UserError, as_text
from tfqnas.runs import exporting
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

if TYPE_CHECKING:
    import tensorflow as tf

    from tfqnas.runs.run import Run

FLAGS = command.Flags()
command.define_flags(RunConfig, FLAGS)
command.define_flags(SearchConfig, FLAGS, read_by=("tfqnas search", "tfqnas run"))  # one flagfile describes a whole run
FINETUNE_ARCH = FLAGS.string("finetune_arch", None, "train this subnet further: FILE#ROW, FILE or JSON")
FINETUNE_BITS = FLAGS.string("finetune_bits", None, "bit width of the subnet's supernet, or mixed")
FINETUNE_EPOCHS = FLAGS.float("finetune_epochs", 25.0, "epochs of the finetuning", lower_bound=0)
FINETUNE_RATE = FLAGS.float("finetune_learning_rate", 0.0016, "peak learning rate of the finetuning", lower_bound=0)
INTEGER_AWARE = FLAGS.bool(
    "integer_aware", False, "finetune with the 8-bit tensors of the exported model and with folded BatchNorm"
)


# Settings of a run that may change while one of its subnets is finetuned.
_FREE = ("evaluation_epochs", "checkpoint_steps", "cache_gb", "distribution")


def main() -> None:
    config = command.from_flags(RunConfig, FLAGS, effects=not FINETUNE_ARCH.value)
    if not FINETUNE_ARCH.value:
        of_finetuning = (FINETUNE_BITS, FINETUNE_EPOCHS, FINETUNE_RATE, INTEGER_AWARE)
        command.refuse([flag.name for flag in of_finetuning], "without `finetune_arch`", "`finetune_arch`")
    cluster = command.trains(config, new=not FINETUNE_ARCH.value)
    command.import_tensorflow()
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import make_strategy, train

    strategy, writes = make_strategy(config.distribution, cluster), cluster is None or cluster.writes
    if FINETUNE_ARCH.value:
        command.keeps(config.run_dir)
        finetune(config, strategy, writes)
        return
    run = Run.create(config, writes)
    command.keeps(run.directory)
    train(run, run.costs.progress(), strategy)
    if writes:
        print(f"{run.directory}: {len(run.stages)} stages trained; next: tfqnas search --run_dir={run.directory}")


def run_to_finetune(config: RunConfig, writes: bool = True) -> Run:
    """The `Run` of `run_dir`. Other given settings must be its own, or free to change.

    Raises:
        UserError: for a setting that would have no effect.
    """
    from tfqnas.runs.run import Run

    run = Run.existing(config.run_dir)
    for field in dataclasses.fields(RunConfig):
        ours, theirs = (as_text(getattr(c, field.name)) for c in (config, run.config))
        if field.name not in ("run_dir", *_FREE) and FLAGS[field.name].present and ours != theirs:
            raise UserError(
                f"`{field.name}={ours}`: a finetuning has the settings of its run, there `{field.name}={theirs}`: "
                "leave it out, or give another `run_dir`"
            )
    free = {name: getattr(config, name) for name in _FREE if FLAGS[name].present}
    return Run(dataclasses.replace(run.config, **free), writes)


def finetune(config: RunConfig, strategy: tf.distribute.Strategy, writes: bool) -> None:
    from tfqnas.runs import family, model_files
    from tfqnas.runs.extraction import extract_model
    from tfqnas.runs.training import train
    from tfqnas.train.stages import finetuning

    run = run_to_finetune(config, writes)
    bits = command.bit_width(run, "finetune_bits", FINETUNE_BITS.value)
    arch = model_files.read_arch(run.space, FINETUNE_ARCH.value, FINETUNE_ARCH.name)
    stage = finetuning(
        bits,
        arch,
        FINETUNE_EPOCHS.value,
        FINETUNE_RATE.value,
        INTEGER_AWARE.value,
        distilled=run.config.distillation != "none",
    )
    if not run.steps(stage):
        raise SettingError(FINETUNE_EPOCHS.name, "enough for at least one step", FINETUNE_EPOCHS.value)
    train(run, run.costs.progress([stage]), strategy, [stage])
    if not writes:
        return
    network = run.networks.load(stage)
    if INTEGER_AWARE.value:
        exporting.snap_biases(run, network.model)
    record, model = extract_model(run, network, arch, run.directory / "models" / stage.name)
    print(f"{record['file']}: {record['after']:.2%} on the test split")
    made = exporting.export_model(run, record, model)
    if "tflite_refused" in made:
        print(f"no .tflite of it: {made['tflite_refused']}")
    else:
        print(
            f"{made['tflite']}: {made['tflite_accuracy']:.2%}; {made['tflite_kB']:.1f} kB, {made['host_ms']:.2f} "
            "ms on this machine"
        )
    family.Family(run, SearchConfig()).add_finetuned(record | made)
    print(f"{run.directory}/report.html")
