"""Model files and what people hand to the tools: architectures, images."""

import pathlib
from typing import Any

import keras
import numpy as np

import tfqnas.layers  # noqa: F401  registers the layers of saved models
from tfqnas.arch import Arch
from tfqnas.data.dataset import DataSet
from tfqnas.data.images import EvaluationImages, batches_of, resized
from tfqnas.errors import UserError
from tfqnas.files import read_json
from tfqnas.search import ParetoFront
from tfqnas.spaces import SearchSpace


def read_arch(space: SearchSpace, text: str) -> Arch:
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


def load_model(path: str | pathlib.Path) -> keras.Model:
    """A model from a `.keras` file, with tfqnas' layers registered."""
    if (suffix := pathlib.Path(path).suffix) not in (".keras", ".h5", ".hdf5"):  # the latter Keras reads as well
        raise UserError(f"{path}: expected a .keras file, received {f'a {suffix} file' if suffix else 'another'}")
    try:
        return keras.saving.load_model(path)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a model that can be loaded ({error})") from None


def check_fit(model: keras.Model, dataset: DataSet, name: str) -> None:
    """Raises `UserError` where a model takes other images, or knows other classes, than the data set `name` has."""
    if len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise UserError(f"--model: expected images of one size, {model.name} takes {model.input_shape[1:]}")
    expected = {"channels": model.input_shape[-1], "num_classes": model.output_shape[-1]}
    for what, number in expected.items():
        if getattr(dataset, what) != number:
            raise UserError(
                f"--model: expects {what.removeprefix('num_')} {number}, {name} has {getattr(dataset, what)}"
            )


def model_record(path: str | pathlib.Path, model: keras.Model) -> dict[str, Any]:
    """What the `.json` file says that extraction wrote beside a model; without one, numbers as class names."""
    record = pathlib.Path(path).with_suffix(".json")
    known = read_json(record) if record.exists() else {}
    return {"class_names": [str(i) for i in range(model.output_shape[-1])], "evaluation_crop": 1.0, **known}


def model_logits(model: keras.Model, images: np.ndarray | EvaluationImages, batch_size: int = 256) -> np.ndarray:
    """Logits, float32 (n, classes), of normalised images, an array or `EvaluationImages`.

    Layer by layer and not by Keras' `predict`, which traces a graph first: seconds for each of many models.
    """
    return np.concatenate([model(batch, training=False) for batch in batches_of(images, batch_size)])


def classify(model: keras.Model, images: np.ndarray, crop: float = 1.0) -> np.ndarray:
    """Probabilities, float32 (n, classes), of uint8 images (n, height, width, channels) of any size.

    `crop`: the share of the shorter side that is looked at, as in the training's evaluation.
    """
    logits = model_logits(model, resized(images, model.input_shape[1], crop))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
