"""TensorFlow Lite's metadata in exported files, read at the slots of its schema without the helper that writes them."""

import dataclasses
import io
import json
import struct
import zipfile

import flatbuffers
import numpy as np
import pytest
from flatbuffers.number_types import Float32Flags, Uint8Flags

from tflite_export import reference
from tflite_export.int_graph import IntGraph, IntOp, IntTensor, with_interface
from tflite_export.metadata import LABELS, standard_metadata, with_labels
from tflite_export.runtime import Runtime, metadata_of
from tflite_export.writer import write
from tfqnas.errors import UserError

NAMES = ["snake", "crème brûlée", "猫", "two words", "  indented"]
UNICODE = ["snake", "crème brûlée", "猫 🐈", "עברית", "tab\tbed"]


def graph_of(channels=3, names=None, shape=None, normalization=(128.0, 128.0), **record):
    """A dense layer with five outputs."""
    rng = np.random.default_rng(0)
    shape = shape or (4, 6, channels)
    one = np.float32([1 / 128])
    x = IntTensor("x", shape, one)
    w = IntTensor("w", (5, np.prod(shape)), one, data=rng.integers(-8, 8, (5, np.prod(shape))).astype(np.int8))
    b = IntTensor("b", (5,), one * one, dtype="int32", data=rng.integers(-99, 99, 5).astype(np.int32))
    flat, y = IntTensor("flat", (np.prod(shape),), one), IntTensor("y", (5,), one * 4)
    ops = (IntOp("reshape", ("x",), ("flat",)), IntOp("fully_connected", ("flat", "w", "b"), ("y",)))
    record = record if names is None else {**record, "class_names": names}
    return IntGraph({t.name: t for t in (x, w, b, flat, y)}, ops, ("x",), ("y",), (normalization,), record)


def labels_of(blob):
    """The labels that are appended to a `.tflite` file; None if there are none."""
    try:
        text = zipfile.ZipFile(io.BytesIO(blob)).read(LABELS).decode()
    except (zipfile.BadZipFile, KeyError):
        return None
    return text.removesuffix("\n").split("\n")


class Table:
    """A table of a FlatBuffer."""

    def __init__(self, table):
        self._table = table

    @classmethod
    def root(cls, blob):
        return cls(flatbuffers.table.Table(blob, struct.unpack_from("<I", blob)[0]))

    def _offset(self, slot):
        return self._table.Offset(4 + 2 * slot)

    def has(self, slot):
        return self._offset(slot) != 0

    def byte(self, slot):
        return self._table.Get(Uint8Flags, self._offset(slot) + self._table.Pos) if self.has(slot) else 0

    def text(self, slot):
        return self._table.String(self._offset(slot) + self._table.Pos).decode()

    def table(self, slot):
        return self._at(self._table.Indirect(self._offset(slot) + self._table.Pos))

    def tables(self, slot):
        return [self._at(self._table.Indirect(place)) for place in self._places(slot)]

    def floats(self, slot):
        return [self._table.Get(Float32Flags, place) for place in self._places(slot)]

    def _places(self, slot):
        start, length = (read(self._offset(slot)) for read in (self._table.Vector, self._table.VectorLen))
        return range(start, start + 4 * length, 4)

    def _at(self, position):
        return Table(flatbuffers.table.Table(self._table.Bytes, position))


def ends(graph):
    """The metadata of the one input and of the one output, out of a written file."""
    (subgraph,) = Table.root(metadata_of(write(graph))["TFLITE_METADATA"]).tables(3)
    (entry,), (exit,) = subgraph.tables(2), subgraph.tables(3)
    return entry, exit


def test_the_model_says_what_it_is():
    record = {"model": "b2_3", "arch_key": "tiny-r32", "bits": 2}
    stored = metadata_of(write(graph_of(**record)))
    assert set(stored) == {"tfqnas", "TFLITE_METADATA"} and json.loads(stored["tfqnas"]) == record
    blob = stored["TFLITE_METADATA"]
    model = Table.root(blob)
    assert blob[4:8] == b"M001" and model.text(7) == "1.0.0" and not model.has(4)
    description = "integer network made by tfqnas, architecture tiny-r32, bits 2"
    assert [model.text(slot) for slot in range(3)] == ["b2_3", description, "1"]
    given = Table.root(standard_metadata(graph_of(model="猫\udcff", description="of cats", version=3)))
    assert [given.text(slot) for slot in range(3)] == ["猫?", "of cats", "3"]
    assert Table.root(standard_metadata(graph_of())).text(0) == "tfqnas"


@pytest.mark.parametrize("normalization", [(128.0, 128.0), (100, 60.5)])
def test_readers_normalise_as_in_training(normalization):
    (unit,) = ends(graph_of(normalization=normalization))[0].tables(4)
    assert unit.byte(0) == 1  # of the union, NormalizationOptions
    assert [unit.table(1).floats(slot) for slot in range(2)] == [[normalization[0]], [normalization[1]]]


@pytest.mark.parametrize(
    ("shape", "content", "color"), [((4, 6, 3), 2, 1), ((4, 6, 1), 2, 2), ((4, 6, 2), 1, 0), ((9,), 1, 0)]
)
def test_one_or_three_channels_are_an_image(shape, content, color):
    entry, _ = ends(graph_of(shape=shape))
    assert entry.text(0) == "image" and " x ".join(map(str, shape)) in entry.text(1)
    assert (entry.table(3).byte(0), entry.table(3).table(1).byte(0)) == (content, color)


@pytest.mark.parametrize(
    ("kind", "words", "low", "high"), [("int8", "pixel - 128", -128, 127), ("uint8", "pixels", 0, 255)]
)
def test_the_input_is_described_in_its_own_integers(kind, words, low, high):
    entry, _ = ends(with_interface(graph_of(), kind))
    assert words in entry.text(1) and kind in entry.text(1)
    assert (entry.table(5).floats(0), entry.table(5).floats(1)) == ([high], [low])


@pytest.mark.parametrize("output_type", ["int8", "float32"])
def test_labels_belong_to_the_output(output_type):
    entry, exit = ends(with_interface(graph_of(names=NAMES), output_type=output_type))
    (file,) = exit.tables(6)
    assert (file.text(0), file.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    assert exit.text(0) == "logits" and exit.table(3).byte(0) == 1 and not entry.has(6)  # FeatureProperties
    assert not ends(graph_of())[1].has(6)


@pytest.mark.parametrize("names", [NAMES, UNICODE])
def test_any_unzip_reads_the_labels(names):
    blob = write(graph_of(names=names))
    archive = zipfile.ZipFile(io.BytesIO(blob))
    assert archive.namelist() == ["labels.txt"] and archive.testzip() is None
    assert archive.read("labels.txt").decode() == "".join(f"{name}\n" for name in names)
    assert labels_of(blob) == names


def test_the_archive_counts_from_the_beginning_of_the_file_and_is_not_compressed():
    blob = write(graph_of(names=UNICODE))
    end = blob.rindex(b"PK\5\6")
    directory = struct.unpack_from("<I", blob, end + 16)[0]
    assert blob[directory : directory + 4] == b"PK\1\2"
    local = struct.unpack_from("<I", blob, directory + 42)[0]
    assert blob[local : local + 4] == b"PK\3\4" and struct.unpack_from("<H", blob, local + 8)[0] == 0
    assert "\n".join(UNICODE).encode() in blob[local:]


def test_litert_runs_the_file_as_without_labels():
    graph = graph_of(names=NAMES)
    pixels = np.random.default_rng(1).integers(-128, 128, (8, 4, 6, 3)).astype(np.int8)
    with_them, without = write(graph), write(dataclasses.replace(graph, metadata={}))
    assert zipfile.is_zipfile(io.BytesIO(with_them)) and not zipfile.is_zipfile(io.BytesIO(without))
    logits = Runtime(with_them).run(pixels)
    np.testing.assert_array_equal(logits, Runtime(without).run(pixels))
    np.testing.assert_array_equal(logits, reference.run(graph, pixels))
    assert len(np.unique(logits)) > 3


def test_the_same_labels_are_the_same_bytes(monkeypatch):
    first = with_labels(b"model", NAMES)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("sys.platform", "win32")
    assert with_labels(b"model", NAMES) == first != with_labels(b"model", UNICODE)
    assert first.startswith(b"model") and write(graph_of(names=NAMES)) == write(graph_of(names=NAMES))


def test_a_label_is_one_line_of_valid_text():
    labels = ["ice\ncream", "a\r\nb", "c\u2028d", "latin-1 \udce9", 7]
    assert labels_of(with_labels(b"", labels)) == ["ice cream", "a b", "c d", "latin-1 ?", "7"]


def test_labels_that_would_misname_classes_are_refused():
    with pytest.raises(UserError, match=r"class_names, number 2: expected a name, received ' \\n'"):
        write(graph_of(names=["a", "b", " \n", "c", "d"]))
    with pytest.raises(UserError, match="class_names: expected 5, one an output of the model, received 2"):
        write(graph_of(names=["a", "b"]))


@pytest.mark.parametrize("names", [None, []])
def test_a_file_without_class_names_has_no_labels(names):
    blob = write(graph_of(names=names))
    assert labels_of(blob) is None and not zipfile.is_zipfile(io.BytesIO(blob))
    other = io.BytesIO(blob)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("other.txt", "a\nb")
    assert labels_of(other.getvalue()) is None
