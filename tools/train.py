"""Trains one supernet for each bit width, from the highest down, in a run directory.

    python tools/train.py --flagfile=configs/digits_oqa.cfg --run_dir=runs/digits

The same command continues a run that was stopped. A single subnet is trained further with

    python tools/train.py --run_dir=runs/digits --finetune_arch=runs/digits/search/b2/pareto.json#3 \
        --finetune_bits=2 --finetune_epochs=5 --finetune_learning_rate=0.01 --integer_aware

and exported, with soft labels of the supernet's largest network; with --integer_aware the training computes what the
exported file will compute.
"""

from absl import flags

from tfqnas.train.config import RunConfig
from tfqnas_tools import common, exports

common.define_flags(RunConfig)
FINETUNE_ARCH = flags.DEFINE_string("finetune_arch", None, "train this subnet further: FILE#ROW, FILE or JSON")
FINETUNE_BITS = flags.DEFINE_integer("finetune_bits", None, "bit width of the supernet it is cut from")
FINETUNE_EPOCHS = flags.DEFINE_float("finetune_epochs", 25.0, "epochs of the finetuning")
FINETUNE_RATE = flags.DEFINE_float("finetune_learning_rate", 0.0016, "peak learning rate of the finetuning")
INTEGER_AWARE = flags.DEFINE_bool(
    "integer_aware", False, "finetune with the 8-bit tensors of the exported model and with BatchNorm as it is folded"
)


def main(argv):
    del argv
    config = common.from_flags(RunConfig)
    common.import_tensorflow()
    from tfqnas.train.run import Run
    from tfqnas.train.training import make_strategy, train

    strategy = make_strategy(config.distribution)
    if FINETUNE_ARCH.value:
        finetune(config, strategy)
        return
    run = Run.create(config)
    train(run, run.progress(), strategy)
    print(f"{run.directory}: {len(run.stages)} stages trained; next: tools/search.py --run_dir={run.directory}")


def finetune(config, strategy):
    from tfqnas import family, models
    from tfqnas.errors import UserError
    from tfqnas.train.run import Run
    from tfqnas.train.stages import finetuning
    from tfqnas.train.training import train

    run = Run.existing(config.run_dir)
    if FINETUNE_BITS.value not in run.config.bits:
        raise UserError(f"--finetune_bits: expected one of {list(run.config.bits)}, received {FINETUNE_BITS.value}")
    arch = models.read_arch(run.space, FINETUNE_ARCH.value)
    stage = finetuning(
        FINETUNE_BITS.value, arch, FINETUNE_EPOCHS.value, FINETUNE_RATE.value, INTEGER_AWARE.value,
        distilled=run.config.distillation != "none",
    )  # fmt: skip
    train(run, run.progress([stage]), strategy, [stage])
    network = run.load(stage)
    if INTEGER_AWARE.value:
        exports.snap_biases(run, network.model)
    record, model = family.extract_model(run, network, arch, run.directory / "models" / stage.name)
    print(f"{record['file']}: {record['after']:.2%} on the test split")
    made = exports.export_model(run, record, model)
    if "tflite_refused" in made:
        print(f"no .tflite of it: {made['tflite_refused']}")
    else:
        print(f"{made['tflite']}: {made['tflite_accuracy']:.2%}; {made['tflite_kB']:.1f} kB, {made['latency_ms']:.2f} "
              "ms on this machine")  # fmt: skip


def cli():
    common.run(main)


if __name__ == "__main__":
    cli()
