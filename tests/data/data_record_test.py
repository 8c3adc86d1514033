"""A run goes on with the images with which it began, or is refused with a line that says what has changed."""

import dataclasses
import json
import os

import pytest

from tfqnas.data.data_config import DataConfig
from tfqnas.data.data_record import FILES, RECORD, DataRecord
from tfqnas.data.dataset import load
from tfqnas.errors import UserError

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def began(make_folder, tmp_path):
    """`(folder, record)` of a run that began with three classes of five images."""
    root = make_folder({"cats": 5, "dogs": 5, "eels": 5})
    data = load(DataConfig(dataset=str(root)), 2, say=lambda line: None)
    data.record.write(tmp_path)
    return root, DataRecord.read(tmp_path)


def again(root, record, say=lambda line: None):
    return load(DataConfig(dataset=str(root)), 2, say=say, record=record)


def contents(data):
    """The files of each split with their labels, in the order of training."""
    splits = {name: data.split(name) for name in ("train", "held_out", "test")}
    return {name: [split.read(n) for n in split.numbers] for name, split in splits.items()}


def test_a_record_is_read_as_it_was_written(began, tmp_path):
    root, record = began
    assert record == again(root, None).record and record.source == "a folder of images"
    assert record.counts == {"train": 10, "held_out": 2, "test": 3}
    assert all(len(record.images[split]) == count for split, count in record.counts.items())
    assert record.images["test"][0].name.startswith("cats/") and len(record.images["test"][0].digest) == 32
    digits = load(DataConfig(), 200).record
    digits.write(tmp_path / "digits")
    assert DataRecord.read(tmp_path / "digits") == digits and not (tmp_path / "digits" / FILES).exists()
    assert DataRecord.read(tmp_path / "none") is None


def test_added_images_and_classes_are_left_out_and_the_splits_stay(began, photo, encode):
    root, record = began
    before = contents(again(root, record))
    for number in range(7):
        (root / f"cats/0{number}.png").write_bytes(encode(photo(90 + number, 20, 24)))  # some sort before the old ones
    (root / "ants").mkdir()
    (root / "ants/1.png").write_bytes(encode(photo(99, 20, 24)))
    (root / "ants/2.png").write_bytes(encode(photo(98, 20, 24)))
    said = []
    data = again(root, record, said.append)
    assert contents(data) == before and data.class_names == ("cats", "dogs", "eels")
    assert said == [f"{root}: 9 images were added since the run began, and are left out, such as ants/1.png"]
    assert contents(again(root, None)) != before  # a new run splits anew


def test_images_that_were_moved_within_their_class_are_known_by_their_content(began, tmp_path):
    root, record = began
    before = contents(again(root, record))
    (root / "cats/new").mkdir()
    for file in list((root / "cats").glob("*.png")):
        file.rename(root / "cats/new" / f"renamed_{file.name}")
    os.utime(root / "dogs/001.png", (1, 1))
    assert contents(again(root, record)) == before
    moved = root.rename(tmp_path / "elsewhere")
    assert contents(again(moved, record)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "cats/001.png").unlink(), "1 of the 15 images .* are missing: cats/001.png: put"),
        (
            lambda root: [f.unlink() for f in (root / "dogs").glob("00[0-3].png")],
            "`dataset=.*photos`: 4 of .* dogs/00.* and others: put",
        ),
        (
            lambda root: (root / "eels/002.png").write_bytes((root / "cats/002.png").read_bytes()),
            "1 of the 15 images with which the run began have another content: eels/002.png",
        ),
        (lambda root: (root / "cats").rename(root / "kittens"), "classes have changed .*: cats then, kittens now"),
        (lambda root: (root / "eels/000.png").rename(root / "dogs/999.png"), "are missing: eels/000.png"),
    ],
    ids=["deleted", "several deleted", "another content", "class renamed", "moved to another class"],
)
def test_missing_and_changed_images_are_refused_by_name(change, message, began):
    root, record = began
    change(root)
    with pytest.raises(UserError, match=message) as error:
        again(root, record)
    assert "put the former data back, or train another `run_dir`" in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("source", "digits of others", "source digits of others then, digits now"),
        ("class_names", tuple("9876543210"), "class names 9, 8, .* then, 0, 1"),
        ("counts", {"train": 1000, "held_out": 200, "test": 397}, "numbers of images train 1000, held_out 200"),
        ("origin", {"tfds": "digits/1.0.0"}, "origin tfds digits/1.0.0 then"),
    ],
)
def test_other_data_than_a_folder_are_compared_too(field, value, message):
    record = load(DataConfig(), 200).record
    with pytest.raises(UserError, match=message):
        load(DataConfig(), 200, record=dataclasses.replace(record, **{field: value}))
    load(DataConfig(), 200, record=record)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (RECORD, lambda text: text.replace("channels", "channel"), f"{RECORD}: unknown field channel"),
        (RECORD, lambda text: "[]", f"{RECORD}: expected an object"),
        (
            RECORD,
            lambda text: text.replace('"channels": 3', '"channels": null'),
            f"{RECORD}: channels: expected one of",
        ),
        (RECORD, lambda text: text[:50], f"{RECORD}: not valid JSON"),
        (RECORD, lambda text: text.replace('"train": 10', '"train": 9'), f"counts are .* not those of {FILES}"),
        (FILES, lambda text: text.replace("test", "train", 1), f"{FILES}: not the file that {RECORD} was written with"),
    ],
)
def test_a_damaged_record_is_refused_by_its_file(name, change, message, began, tmp_path):
    path = tmp_path / name
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=message):
        DataRecord.read(tmp_path)


def test_the_cache_of_checked_images_may_be_anything(began, tmp_path):
    root, record = began
    (cache,) = (tmp_path / "cache/tfqnas").iterdir()
    whole = json.loads(cache.read_text())
    file = next(iter(whole["files"]))
    wrong = [b"", b"{", b"[1]", b"\xff", b'{"version": 3}', b'{"version": 3, "files": []}', b"[" * 100_000]
    entry = whole["files"][file]
    for broken in (
        None,
        [],
        entry[:2],
        [*entry[:2], "short"],
        [entry[0], [0, 1, 3, []], entry[2]],
        [entry[0], 3, None],
    ):
        wrong.append(json.dumps({**whole, "files": {**whole["files"], file: broken}}).encode())
    before = contents(again(root, record))
    for content in wrong:
        cache.write_bytes(content)
        assert contents(again(root, record)) == before
        assert json.loads(cache.read_text()) == whole
