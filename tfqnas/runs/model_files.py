"""Reads what users pass to the tools, which are architectures and model files, and runs loaded models."""

import pathlib
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import tfqnas.layers  # noqa: F401  registers the layers of saved models
from tfqnas.arch import Arch
from tfqnas.data.data_record import DataRecord
from tfqnas.data.dataset import DataSet
from tfqnas.data.images import EvaluationImages, batches_of, resized
from tfqnas.errors import UserError
from tfqnas.files import read_json
from tfqnas.graph.classifying import of_images
from tfqnas.search import ParetoFront
from tfqnas.spaces import SearchSpace


def read_arch(space: SearchSpace, text: str, field: str = "arch") -> Arch:
    """The architecture of a setting: largest, smallest, JSON, FILE.json, or FILE.json#ROW for a Pareto front.

    Args:
        field: name of the setting, for messages.

    Raises:
        UserError: the text is none of these, or the architecture is not of the space.
    """
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
                    raise UserError(f"`{field}`: {path} has rows 0 to {len(rows) - 1}, write {path}#ROW")
                arch = rows[int(row)].arch
            else:
                arch = Arch.from_json(value.get("arch", value))
        space.validate(arch)
    except (ValueError, OSError) as error:
        raise UserError(f"`{field}={text}`: {error}") from None
    return arch


def load_model(path: str | pathlib.Path) -> keras.Model:
    """Loads a model from a `.keras` file, with tfqnas' layers registered; raises `UserError` if that fails."""
    if (suffix := pathlib.Path(path).suffix) not in (".keras", ".h5", ".hdf5"):  # Keras also reads the latter two
        raise UserError(f"{path}: expected a .keras file, received {f'a {suffix} file' if suffix else 'another'}")
    if not pathlib.Path(path).is_file():
        raise UserError(f"{path}: {'not a file' if pathlib.Path(path).exists() else 'there is no such file'}")
    try:
        return keras.saving.load_model(path)
    except Exception as error:  # there is none that a damaged file does not cause somewhere in Keras
        _, _, reason = str(error).rpartition("Exception encountered: ")  # before it stands the whole configuration
        reason = textwrap.shorten(reason or type(error).__name__, 400)
        raise UserError(f"{path}: not a model that can be loaded ({reason})") from None


def fitting(
    model: keras.Model, record: Mapping[str, Any], dataset: DataSet, say: Callable[[str], None] = print
) -> DataSet:
    """The data set with its classes in the order of a model's, if both have names.

    Args:
        model: Keras model that makes logits from images.
        record: its record. Without "class_names" only the number of classes is known.
        dataset: the data set.
        say: called with a line if the order is another.

    Raises:
        UserError: the model takes other images, or has other classes.
    """
    return dataset.fitted(of_images(model)[1], model.output_shape[-1], record.get("class_names"), say)


def refuse_trained_on(path: str | pathlib.Path, dataset: DataSet) -> None:
    """Raises `UserError` if a model that lies in a run directory was trained on some of these test images.

    That happens where images have been added to a folder, which is then split anew.
    """
    run = pathlib.Path(path).resolve().parents[1]
    record = DataRecord.read(run)
    if record is None:
        return
    trained = {image.digest for split in ("train", "held_out") for image in record.images.get(split, ())}
    trained -= {image.digest for image in record.images.get("test", ())}  # copies, of which the run has warned
    seen = [image.name for image in dataset.record.images.get("test", ()) if image.digest in trained]
    if seen:
        raise UserError(
            f"`dataset={dataset.name}`: {len(seen)} of the {len(dataset.test)} test images are among those with which "
            f"{run} trained and searched this model, such as {seen[0]}: the folder has changed since and is split "
            f"anew; `run_dir={run}` takes the images with which it began"
        )


def model_record(path: str | pathlib.Path) -> dict[str, Any]:
    """The record next to a model. "class_names" is missing where they are not known."""
    record = pathlib.Path(path).with_suffix(".json")
    known = read_json(record) if record.exists() else {}
    return {"evaluation_crop": 1.0, **known}


def model_logits(model: keras.Model, images: np.ndarray | EvaluationImages, batch_size: int = 256) -> np.ndarray:
    """Logits, float32 (n, classes), of normalised images, an array or `EvaluationImages`.

    The model is called eagerly, since Keras' `predict` would first trace a graph for seconds.
    """
    return np.concatenate([model(batch, training=False) for batch in batches_of(images, batch_size)])


def classify(model: keras.Model, images: np.ndarray, crop: float = 1.0) -> np.ndarray:
    """Probabilities, float32 (n, classes), for uint8 images (n, height, width, channels) of any size.

    `crop` is the fraction of the shorter side that is kept, as in the training's evaluation.
    """
    logits = model_logits(model, resized(images, model.input_shape[1], crop))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
