"""Saves subnets of a supernet as Keras models, each of which is reloaded and compared with the supernet."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.arch import Arch
from tfqnas.data.images import EvaluationImages
from tfqnas.errors import UserError
from tfqnas.files import read_json, replaced, write_atomically, write_json
from tfqnas.quantizers import quantizers_of
from tfqnas.runs.model_files import load_model, model_logits
from tfqnas.runs.run import Run
from tfqnas.search import Result
from tfqnas.subnet import extract, snap_zero_points
from tfqnas.supernet import Supernet
from tfqnas.train.calibrate import accuracy
from tfqnas.train.subnet_net import SubnetNet


def extract_model(
    run: Run, supernet: Supernet | SubnetNet, arch: Arch, path: pathlib.Path, more: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], keras.Model]:
    """Extracts a subnet to `path`.keras, reloads it, and writes its record to `path`.json.

    Args:
        run: `Run`.
        supernet: `Supernet`, or the `SubnetNet` of a finetuning.
        arch: `Arch`.
        path: path without suffix.
        more: further entries for the record.

    Returns:
        `(record, reloaded model)`.

    Raises:
        UserError: the reloaded model has another test accuracy than the supernet.
    """
    statistics = run.evaluator.recalibrate(supernet, arch)
    before = run.evaluator.accuracy(supernet, arch, "test", statistics)
    model = supernet.model if isinstance(supernet, SubnetNet) else extract(supernet, arch, statistics)
    file = path.with_name(f"{path.name}.keras")
    with replaced(file) as temporary:
        model.save(temporary)
    images = run.evaluator.images("test", arch.resolution)
    reloaded = load_model(file)
    after = accuracy(model_logits(reloaded, images), images.labels)
    # At 2 bits another order of summation may round a value differently and change the class of an image.
    if round(abs(after - before) * len(images)) > max(2, len(images) // 500):
        raise UserError(f"{file}: expected the supernet's test accuracy {before:.2%}, the saved model has {after:.2%}")
    record = {
        "model": path.name,
        "arch_key": arch.key,
        "bits": supernet.bits,
        **run.costs.of(arch, supernet.bits),
        **(more or {}),
        **_with_fractions(reloaded, images),
        "before": before,
        "after": after,
        "file": str(file.relative_to(run.directory)),
        "arch": json.loads(arch.to_json()),
        "class_names": list(run.dataset.class_names),
        "normalization": "(x - 128) / 128",
        "evaluation_crop": run.config.evaluation_crop,
    }
    write_json(path.with_name(f"{path.name}.json"), record)
    return record, reloaded


def copy_extracted(run: Run, record: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
    """Copies an extracted model to another name, and returns the record of the copy."""
    copy = {**record, "model": path.name}
    for key in ("file", "tflite", "model_card"):
        if key in record:
            source = run.directory / record[key]
            target = path.with_name(f"{path.name}{source.suffix}")
            write_atomically(target, source.read_bytes())
            copy[key] = str(target.relative_to(run.directory))
    write_json(
        path.with_name(f"{path.name}.json"),
        {**read_json(_beside(run, record), dict[str, Any]), "model": path.name, "file": copy["file"]},
    )
    return copy


def _beside(run: Run, record: Mapping[str, Any]) -> pathlib.Path:
    """The path of the record of an extracted model."""
    return (run.directory / record["file"]).with_suffix(".json")


def _with_fractions(model: keras.Model, images: EvaluationImages) -> dict[str, float]:
    """The accuracy with zero points that are not rounded, as in training; empty without such quantizers."""
    if not any(quantizer.traits.observes for quantizer in quantizers_of(model)):
        return {}
    snap_zero_points(model, False)
    found = accuracy(model_logits(model, images), images.labels)
    snap_zero_points(model)
    return {"before_snapping": found}


def along(rows: Sequence[Result], wanted: int) -> list[int]:
    """Ascending indices of `wanted` evenly spread rows of a front, which always include the most accurate row.

    With several costs the most accurate row need not be the last one. It then replaces its nearest neighbour.
    """
    spread = {round(i) for i in np.linspace(len(rows) - 1, 0, min(wanted, len(rows)))}
    best = int(np.argmax([row.accuracy for row in rows])) if rows else None
    if rows and best not in spread:
        spread.remove(min(spread, key=lambda i: (abs(i - best), -i)))
        spread.add(best)
    return sorted(spread)
