"""Classifies image files with a saved model.

tfqnas predict --model=runs/digits/models/b2_largest.keras photo.png scan.jpg
"""

import sys

from tfqnas.cli import command
from tfqnas.errors import SettingError, UserError

FLAGS = command.Flags()
MODEL = FLAGS.string("model", None, "a .keras file", required=True)
TOP = FLAGS.integer("top", 3, "classes to print for each image", lower_bound=1)
# The words that this command takes besides flags.
WORDS = "FILE [FILE ...]"


def main(words: list[str]) -> None:
    if not words:
        raise UserError("expected image files: tfqnas predict --model=MODEL.keras FILE [FILE ...]")
    command.import_tensorflow()
    from tfqnas.data.images import read_image
    from tfqnas.runs import model_files
    from tfqnas.tasks.classification import of_images

    model = model_files.load_model(MODEL.value)
    _, channels = of_images(model)
    if channels not in (1, 3):
        raise SettingError("model", "one for images of 1 or 3 channels", f"one of {channels} channels")
    record = model_files.model_record(MODEL.value, model)
    names = record.get("class_names") or [str(i) for i in range(model.output_shape[-1])]
    failed = 0
    for path in words:
        try:
            image = read_image(path, channels)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"{path}: {reason}", file=sys.stderr)
            failed += 1
            continue
        probabilities = model_files.classify(model, image[None], record["evaluation_crop"])[0]
        best = probabilities.argsort()[::-1][: TOP.value]
        print(f"{path}: " + ", ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))
    if failed:
        raise UserError(f"{failed} of {len(words)} files could not be read")
