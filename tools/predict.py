"""Classifies image files with a saved model.

python tools/predict.py --model=runs/digits/models/b2_largest.keras photo.png scan.jpg
"""

import sys

from absl import flags

from tfqnas.errors import UserError
from tfqnas_tools import common

MODEL = flags.DEFINE_string("model", None, "a .keras file", required=True)
TOP = flags.DEFINE_integer("top", 3, "classes to print for each image", lower_bound=1)


def main(argv: list[str]) -> None:
    if len(argv) < 2:
        raise UserError("expected image files: tools/predict.py --model=MODEL.keras FILE [FILE ...]")
    common.import_tensorflow()
    from tfqnas import models

    model = models.load_model(MODEL.value)
    record = models.model_record(MODEL.value, model)
    names = record["class_names"]
    failed = 0
    for path in argv[1:]:
        try:
            image = models.read_image(path, model.input_shape[-1])
        except (OSError, ValueError) as error:
            print(f"{path}: not a readable image ({error})", file=sys.stderr)
            failed += 1
            continue
        probabilities = models.classify(model, image[None], record["evaluation_crop"])[0]
        best = probabilities.argsort()[::-1][: TOP.value]
        print(f"{path}: " + ", ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))
    if failed:
        raise UserError(f"{failed} of {len(argv) - 1} files could not be read")


def cli() -> None:
    common.run(main)


if __name__ == "__main__":
    cli()
