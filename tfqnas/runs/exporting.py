"""Exports an extracted model to an integer file, and compares the file with the model."""

from __future__ import annotations

import pathlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.errors import UserError
from tfqnas.files import read_json, write_atomically

if TYPE_CHECKING:
    import keras

    from tflite_export.runtime import Runtime
    from tfqnas.runs.run import Run

CALIBRATION_IMAGES = 512
REFERENCE_IMAGES = 1000
_LATENCY_RUNS = 50


def uniform_choices(model_file: str | None) -> str:
    """A hint for a model with tensors that cannot be exported, with the best uniform choices of a search."""
    from tfqnas.dqss.candidates import best_uniform
    from tfqnas.dqss.directory import Strategies

    record = pathlib.Path(model_file or "").with_name("strategies.json")
    choices = read_json(record, Strategies)["choices"] if model_file and record.exists() else []
    found = [f"{c['layer']}, {c['role']}: {best_uniform(c)}" for c in choices if not c["deployable"]]
    best = f" The best uniform choices of {record}: {'; '.join(found)}." if found else ""
    return f".{best} tfqnas quantize --deployable searches among uniform strategies alone"


def export_model(run: Run, record: dict[str, Any], model: keras.Model) -> dict[str, Any]:
    """Writes the `.tflite` file and the model card of an extracted model, and compares the file on test images.

    Args:
        run: `Run`.
        record, model: the result of `tfqnas.runs.extraction.extract_model`.

    Returns:
        Additions to the record: "tflite" (path of the file), "tflite_kB", "tflite_accuracy" (on all test images),
        "tflite_identical" (fraction of the compared images with identical integers in LiteRT and the reference),
        "tflite_compared" (number of compared images, a fixed random choice of up to 1,000), "host_ms" (time of an image
        on this machine with one thread) and "model_card" (path of the card). If the model has no exact integer form
        there is only "tflite_refused", the reason.

    Raises:
        UserError: LiteRT and the reference give different integers.
    """
    from tflite_export.int_graph import with_metadata
    from tflite_export.lower import ExportError, lower
    from tflite_export.model_card import model_card
    from tflite_export.runtime import Runtime
    from tflite_export.verify import verify
    from tflite_export.writer import write

    file = run.directory / record["file"]
    try:
        graph = lower(model, calibration_images(run, model), metadata=record)
    except ExportError as error:
        return {"tflite_refused": str(error)}
    images = run.evaluator.images("test", model.input_shape[1])
    result = verify(model, graph, write(graph), images.batches(256), images.labels, limit=REFERENCE_IMAGES)
    if result.identical < 1:
        raise UserError(f"{file}: {result.problem()}")
    accuracy = {"keras": record["after"], **result.record()} if "after" in record else result.record()
    about = about_export(run.config.dataset, len(run.dataset.train), len(run.dataset.test))
    card = model_card(record, result, **about)
    blob = write(with_metadata(graph, accuracy=accuracy, identical=result.identical, **about))
    output = file.with_suffix(".tflite")
    write_atomically(output, blob)
    write_atomically(file.with_suffix(".md"), card)
    return {
        "tflite": str(output.relative_to(run.directory)),
        "tflite_kB": len(blob) / 1000,
        "model_card": str(file.with_suffix(".md").relative_to(run.directory)),
        "tflite_accuracy": result.scores["litert"],
        "tflite_identical": result.identical,
        "tflite_compared": result.compared,
        "host_ms": latency_ms(Runtime(blob)),
    }


def about_export(name: str, train: int, test: int) -> dict[str, Any]:
    """The arguments `data` and `made` of `model_card`, for a data set with these numbers of images and this process."""
    from tflite_export import model_card

    return {
        "data": {"name": name, "train": train, "test": test},
        "made": {"command": model_card.command(), "versions": model_card.versions()},
    }


def snap_biases(run: Run, model: keras.Model) -> None:
    """Moves the biases of an integer-aware model to the integers of its file, see `tflite_export.biases`."""
    from tflite_export.biases import snap_biases
    from tflite_export.lower import lower

    snap_biases(model, lower(model, calibration_images(run, model)))


def calibration_images(run: Run, model: keras.Model) -> np.ndarray:
    """Calibration images for a model, float32 (n, height, width, channels)."""
    return np.concatenate(list(run.evaluator.images("train", model.input_shape[1], CALIBRATION_IMAGES).batches(256)))


def latency_ms(runtime: Runtime) -> float:
    """The median time of one image in milliseconds, on this machine with the runtime's threads."""
    image = np.zeros((1, *runtime.input["shape"][1:]), runtime.input["dtype"])
    times = []
    for _ in range(_LATENCY_RUNS):
        began = time.perf_counter()
        runtime.run(image)
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))
