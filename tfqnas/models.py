"""Model files and what people hand to the tools: architectures, images."""

import pathlib

import keras
import numpy as np
import PIL.Image

import tfqnas.layers  # noqa: F401  registers the layers of saved models
from tfqnas.arch import Arch
from tfqnas.data import resized
from tfqnas.errors import UserError
from tfqnas.files import read_json
from tfqnas.search import ParetoFront


def read_arch(space, text):
    """An architecture from a flag: largest, smallest, JSON, FILE.json or FILE.json#ROW of a Pareto front."""
    if text in ("largest", "smallest"):
        return getattr(space, text)()
    try:
        if text.lstrip().startswith("{"):
            arch = Arch.from_json(text)
        else:
            path, _, row = text.partition("#")
            value = read_json(path)
            if "rows" in value:
                rows = ParetoFront.from_json(value).rows
                if not row.isdecimal() or int(row) >= len(rows):
                    raise UserError(f"--arch: {path} has rows 0 to {len(rows) - 1}, write {path}#ROW")
                arch = rows[int(row)].arch
            else:
                arch = Arch.from_json(value.get("arch", value))
        space.validate(arch)
    except (ValueError, OSError) as error:
        raise UserError(f"--arch={text}: {error}") from None
    return arch


def load_model(path):
    """A model from a `.keras` file, with tfqnas' layers registered."""
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a model that can be loaded ({error})") from None


def class_names(path, model):
    """Class names of a model: those in the `.json` file that extraction wrote beside it, else numbers."""
    record = pathlib.Path(path).with_suffix(".json")
    if record.exists():
        return read_json(record)["class_names"]
    return [str(i) for i in range(model.output_shape[-1])]


def read_image(path, channels):
    """An image file as uint8 (height, width, channels), 1 channel for grey or 3 for RGB."""
    with PIL.Image.open(path) as image:
        array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., np.newaxis] if channels == 1 else array


def predict(model, images, batch_size=256):
    """Logits, float32 (n, classes), of normalised images.

    Layer by layer and not by Keras' `predict`, which traces a graph first: seconds for each of many models.
    """
    batches = range(0, len(images), batch_size)
    return np.concatenate([model(images[i : i + batch_size], training=False) for i in batches])


def classify(model, images):
    """Probabilities, float32 (n, classes), of uint8 images (n, height, width, channels) of any size."""
    logits = predict(model, resized(images, model.input_shape[1]))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
