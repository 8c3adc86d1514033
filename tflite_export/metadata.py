"""Writes TensorFlow Lite's standard metadata, which MediaPipe, the Task library, Android Studio and viewers read.

It has two parts. The model's metadata entry `TFLITE_METADATA` is a FlatBuffer (identifier M001, TensorFlow Lite
Support's `metadata_schema.fbs`). The files that it names are appended as a ZIP archive, so that `unzip` opens the file.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from tflite_export.int_graph import IntGraph
from tfqnas.errors import UserError

STANDARD = "TFLITE_METADATA"
LABELS = "labels.txt"
# Values of the schema's enumerations and unions.
_FEATURES, _IMAGE = 1, 2
_COLORS = {3: 1, 1: 2}  # RGB, GRAYSCALE by channels
_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2
_MIN_PARSER_VERSION = "1.0.0"  # all fields below are as old as the schema
_PIXELS = {"int8": "pixel - 128", "uint8": "the pixels"}


def standard_metadata(graph: IntGraph) -> bytes:
    """The metadata FlatBuffer of an `IntGraph`.

    It takes "class_names" of `graph.metadata` as the labels of the output's last axis, and "model", "description" and
    "version" as the model's. The other entries have no place in the schema.

    Raises:
        UserError: the number of labels is not the number of outputs. The Task library refuses such a file.
    """
    record = graph.metadata
    labels, classes = record.get("class_names"), _classes(graph, graph.outputs[0])
    if labels and len(labels) != classes:
        raise UserError(f"class_names: expected {classes}, one an output of the model, received {len(labels)}")
    facts = {"architecture": record.get("arch_key"), "bits": record.get("bits")}
    known = [f"{what} {value}" for what, value in facts.items() if value is not None]
    # In models, tensors and files slot 0 is the name and slot 1 the description.
    model = {
        0: str(record.get("model") or record.get("arch_key") or "tfqnas"),
        1: str(record.get("description", ", ".join(["integer network made by tfqnas", *known]))),
        2: str(record.get("version", "1")),  # the model's version, not this package's
        3: [
            {2: [_input(graph, i) for i in range(len(graph.inputs))], 3: _outputs(graph, labels)}
        ],  # subgraphs: tensors in, tensors out
        7: _MIN_PARSER_VERSION,
    }
    builder = flatbuffers.Builder(1024)
    builder.Finish(_stored(builder, model), b"M001")
    return bytes(builder.Output())


def with_labels(blob: bytes, labels: Sequence[object] | None) -> bytes:
    """The bytes of a `.tflite` file with the labels appended, unchanged if there are none.

    Each label takes one line; line breaks within a label become spaces. The labels are not compressed since readers map
    the file into memory.

    Raises:
        UserError: a label is blank. Some readers skip blank lines and would misname all later classes.
    """
    if not labels:
        return blob
    lines = [" ".join(str(label).splitlines()) for label in labels]
    for label, line in zip(labels, lines, strict=True):
        if not line.strip():
            raise UserError(f"class_names, number {lines.index(line)}: expected a name, received {label!r}")
    info = zipfile.ZipInfo(LABELS)  # its fixed date of 1980 makes the bytes reproducible
    info.create_system = 3
    file = io.BytesIO()
    file.write(blob)
    with zipfile.ZipFile(file, "w") as archive:  # appends, with offsets from the start of the file
        archive.writestr(info, "".join(f"{line}\n" for line in lines).encode(errors="replace"))
    return file.getvalue()


def _input(graph: IntGraph, place: int) -> dict[int, Any]:
    """The table of an input tensor. Mean and standard deviation give the floats that the Keras model takes."""
    tensor, normalization = graph.tensors[graph.inputs[place]], graph.normalizations[place]
    name = "image" if len(graph.inputs) == 1 else tensor.name.split("/")[0]
    if normalization is None or tensor.dtype == "float32":
        values = "what scale and zero point say" if tensor.dtype != "float32" else "what the Keras model takes"
        return {0: name, 1: f"{values}, {' x '.join(map(str, tensor.shape))}", 3: {0: _FEATURES, 1: {}}}
    mean, std = (np.array([number], np.float32) for number in normalization)
    low, high = (np.array([number], np.float32) for number in tensor.range)
    color = _COLORS.get(tensor.shape[-1]) if len(tensor.shape) == 3 else None
    size = " x ".join(str(n) for n in tensor.shape)
    return {
        0: name,
        1: f"{_PIXELS[tensor.dtype]} as {tensor.dtype}, {size}",
        3: {0: _FEATURES, 1: {}} if color is None else {0: _IMAGE, 1: {0: color}},  # content
        4: [{0: _NORMALIZATION, 1: {0: mean, 1: std}}],  # process units
        5: {0: high, 1: low},  # statistics of the stored integers
    }


def _outputs(graph: IntGraph, labels: Sequence[object] | None) -> list[dict[int, Any]]:
    if len(graph.outputs) == 1:
        return [_output(_classes(graph, graph.output), labels)]
    sizes = {name: " x ".join(map(str, graph.tensors[name].shape)) for name in graph.outputs}
    return [{0: name.split("/")[0], 1: f"numbers, {size}", 3: {0: _FEATURES, 1: {}}} for name, size in sizes.items()]


def _classes(graph: IntGraph, name: str) -> int:
    """The size of the last axis of a tensor; 1 for a single number of each example."""
    return (graph.tensors[name].shape or (1,))[-1]


def _output(classes: int, labels: Sequence[object] | None) -> dict[int, Any]:
    tensor = {0: "logits", 1: f"{classes} numbers, the largest at the class", 3: {0: _FEATURES, 1: {}}}
    if labels:  # associated files; slot 2 is their type
        tensor[6] = [{0: LABELS, 1: "names of the classes, a line each", 2: _TENSOR_AXIS_LABELS}]
    return tensor


def _stored(builder: flatbuffers.Builder, value: Any) -> int:
    """The offset of a string, an array of numbers, a list of tables, or a table given as a dict from slot to value.

    An int in a table is a byte. A union takes two slots, the kind of its table and the table.
    """
    if isinstance(value, str):
        return builder.CreateString(value, errors="replace")
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        offsets = [_stored(builder, item) for item in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    fields = {slot: item if isinstance(item, int) else _stored(builder, item) for slot, item in value.items()}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, field in fields.items():
        put = builder.PrependUint8Slot if isinstance(value[slot], int) else builder.PrependUOffsetTRelativeSlot
        put(slot, field, 0)
    return builder.EndObject()
