"""Reads what users pass to the tools, which are architectures and model files, and runs loaded models."""

import pathlib
import textwrap
from typing import Annotated, Any, NotRequired, TypedDict

import keras
import numpy as np

import tfqnas.layers
import tfqnas.tasks.in_keras  # noqa: F401  registers their losses and metrics
from tfqnas.arch import Arch, ArchData
from tfqnas.data.data_record import DataRecord
from tfqnas.data.dataset import DataSet
from tfqnas.data.images import EvaluationImages, batches_of, resized
from tfqnas.errors import UserError
from tfqnas.files import read_json
from tfqnas.records import Count, NotNegative, Open, Range, Share
from tfqnas.search import ParetoFront
from tfqnas.spaces import SearchSpace
from tfqnas.train import checkpoint
from tfqnas.train.calibrate import check_finite
from tfqnas.train.stages import Bits


class ModelRecord(TypedDict, total=False):
    """What is read of the record next to a model, `MODEL.json`."""

    class_names: list[str]
    evaluation_crop: Annotated[float, Range(0.01, 1)]


class Extracted(TypedDict):
    """The record of an extracted model in `models.json` and `finetuned.jsonl`, with costs as in `Costs.of`."""

    model: str
    arch_key: str
    arch: ArchData
    bits: Bits
    effective_mflops: NotRequired[NotNegative]
    mmacs: NotRequired[NotNegative]
    mbitops: NotRequired[NotNegative]
    params: NotRequired[Count]
    kB: NotRequired[NotNegative]
    before: NotRequired[Share]
    before_snapping: NotRequired[Share]
    after: Share
    file: NotRequired[str]
    class_names: NotRequired[list[str]]
    normalization: NotRequired[str]
    evaluation_crop: NotRequired[Annotated[float, Range(0.01, 1)]]
    predicted_latency_ms: NotRequired[float]
    predicted_npu_cycles: NotRequired[float]
    latency_device: NotRequired[str]
    tflite: NotRequired[str]
    tflite_kB: NotRequired[NotNegative]
    tflite_accuracy: NotRequired[Share]
    tflite_identical: NotRequired[Share]
    tflite_compared: NotRequired[Count]
    tflite_refused: NotRequired[str]
    host_ms: NotRequired[NotNegative]
    model_card: NotRequired[str]


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
        if text.lstrip().startswith(("{", "[")):
            arch = Arch.from_json(text)
        else:
            # A "#" may also belong to the path.
            path, row = (text, "") if "#" not in text or pathlib.Path(text).exists() else text.rsplit("#", 1)
            value = read_json(path, dict[str, Any])
            if "rows" in value:
                rows = ParetoFront.from_json(value, path).rows
                if not row.isdecimal() or int(row) >= len(rows):
                    raise UserError(f"`{field}`: {path} has rows 0 to {len(rows) - 1}, write {path}#ROW")
                arch = rows[int(row)].arch
            else:
                arch = Arch.from_json(value.get("arch", value), path)
        space.validate(arch)
    except (ValueError, OSError) as error:
        missing = "expected largest, smallest, FILE.json, FILE.json#ROW or JSON; there is no such file"
        reason = missing if isinstance(error, FileNotFoundError) else error
        raise UserError(f"`{field}={text if len(text) < 100 else text[:100] + '...'}`: {reason}") from None
    return arch


def is_saved_model(path: str | pathlib.Path) -> bool:
    """Whether a path is a SavedModel directory of TensorFlow."""
    return (pathlib.Path(path) / "saved_model.pb").is_file()


def load_model(path: str | pathlib.Path) -> keras.Model:
    """Loads a model from a `.keras` file, with tfqnas' layers registered; raises `UserError` if that fails."""
    if (suffix := pathlib.Path(path).suffix) not in (".keras", ".h5", ".hdf5"):  # Keras also reads the latter two
        old = "; `tfqnas.integrations.keras2.load_model` reads a SavedModel of Keras 2" if is_saved_model(path) else ""
        received = f"a {suffix} file" if suffix else "a SavedModel" if old else "another"
        raise UserError(f"{path}: expected a .keras file, received {received}{old}")
    if not pathlib.Path(path).is_file():
        raise UserError(f"{path}: {'not a file' if pathlib.Path(path).exists() else 'there is no such file'}")
    try:
        model = keras.saving.load_model(path)
    except Exception as error:  # there is none that a damaged file does not cause somewhere in Keras
        _, _, reason = str(error).rpartition("Exception encountered: ")  # before it stands the whole configuration
        reason = textwrap.shorten(reason or type(error).__name__, 400)
        raise UserError(f"{path}: not a model that can be loaded ({reason})") from None
    checkpoint.check_weights(model.variables, str(path))
    return model


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


def model_record(path: str | pathlib.Path, model: keras.Model) -> dict[str, Any]:
    """The record next to a model. "class_names" is missing where they are not known.

    Raises:
        UserError: the record is damaged, or its names are not those of as many classes as the model has.
    """
    record = pathlib.Path(path).with_suffix(".json")
    known = read_json(record, Annotated[ModelRecord, Open()]) if record.exists() else {}
    if (names := known.get("class_names")) is not None:
        expected = model.output_shape[-1]
        if len(names) != expected or len(set(names)) != expected:
            raise UserError(
                f"{record}: class_names: expected {expected} different names, one for each class of the model, "
                f"received {len(set(names))}"
            )
    return {"evaluation_crop": 1.0, **known}


def model_logits(model: keras.Model, images: np.ndarray | EvaluationImages, batch_size: int = 256) -> np.ndarray:
    """Logits, float32 (n, classes), of normalised images, an array or `EvaluationImages`; `UserError` if not finite.

    The model is called eagerly, since Keras' `predict` would first trace a graph for seconds.
    """
    logits = np.concatenate([model(batch, training=False) for batch in batches_of(images, batch_size)])
    return check_finite(logits, model.name)


def classify(model: keras.Model, images: np.ndarray, crop: float = 1.0) -> np.ndarray:
    """Probabilities, float32 (n, classes), for uint8 images (n, height, width, channels) of any size.

    `crop` is the fraction of the shorter side that is kept, as in the training's evaluation.
    """
    logits = model_logits(model, resized(images, model.input_shape[1], crop))
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))
