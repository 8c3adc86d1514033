"""Accuracy of a saved model, or of a subnet of a trained supernet, on the test split of a data set.

    python tools/evaluate.py --model=runs/digits/models/b2_3.keras --dataset=digits
    python tools/evaluate.py --run_dir=runs/digits --bits=2 --arch=largest
    python tools/evaluate.py --run_dir=runs/digits --stage=largest_b4 --arch=runs/digits/search/b4/pareto.json#0
"""

from absl import flags

from tfqnas_tools import common

MODEL = flags.DEFINE_string("model", None, "a .keras file")
DATASET = flags.DEFINE_string("dataset", "digits", "data set to score --model on")
RUN_DIR = flags.DEFINE_string("run_dir", None, "run directory, to score a subnet of one of its supernets")
BITS = flags.DEFINE_integer("bits", None, "bit width of the supernet")
STAGE = flags.DEFINE_string("stage", None, "instead of --bits: name of any finished stage of the run")
ARCH = flags.DEFINE_string("arch", "largest", "largest, smallest, FILE.json, FILE.json#ROW or JSON")
SPLIT = flags.DEFINE_enum("split", "test", ["test", "held_out", "train"], "split to score on")


def main(argv):
    del argv
    from tfqnas import data, models
    from tfqnas.errors import UserError
    from tfqnas.train.calibrate import accuracy
    from tfqnas.train.run import Run

    if bool(MODEL.value) == bool(RUN_DIR.value):
        raise UserError("expected either --model or --run_dir")
    if MODEL.value:
        model = models.load_model(MODEL.value)
        images, labels = data.load(DATASET.value, held_out=1).split(SPLIT.value)
        if images.shape[-1] != model.input_shape[-1]:
            expected = model.input_shape[-1]
            raise UserError(f"--model: expects {expected} channels, {DATASET.value} has {images.shape[-1]}")
        images = data.resized(images, model.input_shape[1])
        result = accuracy(model.predict(images, batch_size=256, verbose=0), labels)
        print(f"{MODEL.value}: {result:.2%} of {len(labels)} {SPLIT.value} images of {DATASET.value}")
        return
    run = Run.existing(RUN_DIR.value)
    if (BITS.value is None) == (STAGE.value is None):
        raise UserError(f"expected either --bits, of {list(run.config.bits)}, or --stage")
    supernet = run.load(run.stage(STAGE.value)) if STAGE.value else run.supernet(BITS.value)
    arch = models.read_arch(run.space, ARCH.value)
    result = run.accuracy(supernet, arch, SPLIT.value)
    count = len(run.dataset.split(SPLIT.value)[1])
    print(f"{arch.key} at {supernet.bits or 32} bits: {result:.2%} of {count} {SPLIT.value} images, recalibrated")


def cli():
    common.run(main)


if __name__ == "__main__":
    cli()
