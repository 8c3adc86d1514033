import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tests.data.conftest import encoded_as, smooth
from tfqnas.data import photos, prepare, prepare_photos
from tfqnas.data.prepare_photos import Source
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A Debian package with two photos, one of them large, and a Python package with one; no network."""
    wide, small = encoded_as(smooth(1, 30, 2100)), encoded_as(smooth(2, 40, 50), "JPEG", quality=95)
    tested = tmp_path / "tested.png"
    tested.write_bytes(encoded_as(smooth(3, 20, 30)))

    def source(name, package, path, content):
        return Source(name, package, path, hashlib.sha256(content).hexdigest())

    train = (source("wide", "walls", "usr/wide.png", wide), source("small", "walls", "usr/small.jpg", small))
    monkeypatch.setattr(prepare_photos, "TRAIN", train)
    monkeypatch.setattr(prepare_photos, "TEST", (source("tested", "some", "tested.png", tested.read_bytes()),))
    monkeypatch.setattr(prepare_photos, "file_of", lambda package, path: tmp_path / path)
    contents = {"usr/wide.png": wide, "usr/small.jpg": small}

    def run(command, cwd, **_):
        if command[0] == "apt-get":
            (pathlib.Path(cwd) / f"{command[-1]}_1_all.deb").write_bytes(b"")
        for path, content in contents.items() if command[0] == "dpkg-deb" else ():
            (pathlib.Path(cwd) / path).parent.mkdir(parents=True, exist_ok=True)
            (pathlib.Path(cwd) / path).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(prepare.subprocess, "run", run)
    monkeypatch.setattr(prepare.shutil, "which", lambda tool: tool)
    return contents


def test_photos_are_gathered_once_and_large_ones_reduced(packages, tmp_path, monkeypatch):
    lines = []
    made = prepare_photos.prepare_photos(str(tmp_path / "data"), lines.append)
    assert [r["size"] for r in made["train"]] == [[29, 2040], [40, 50]] and made["longest_side"] == 2040
    found = photos.load(str(tmp_path / "data"))
    assert found.train_names == ("wide", "small") and found.test_names == ("tested",)
    assert [p.shape for p in found.train] == [(29, 2040, 3), (40, 50, 3)]
    np.testing.assert_array_equal(found.test[0], smooth(3, 20, 30))
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["photos"]

    monkeypatch.setattr(prepare_photos, "unpack_debian", None)  # it would fail
    assert prepare_photos.prepare_photos(str(tmp_path / "data"), lines.append) == made
    assert lines == [
        "photos: downloading Debian's package walls",
        f"photos are prepared already: {tmp_path / 'data/photos'}",
    ]


def test_what_an_older_version_or_a_kill_left_is_replaced(packages, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/index.json").write_text('{"version": 0}')
    (tmp_path / ".photos.x.tmp").mkdir()
    with pytest.raises(UserError, match="are not prepared"):
        photos.load(str(tmp_path))
    prepare_photos.prepare_photos(str(tmp_path), print)
    assert len(photos.load(str(tmp_path)).train) == 2
    assert not list(tmp_path.glob(".photos*"))


@pytest.mark.parametrize("change", ["another", "missing"])
def test_another_release_is_refused_and_leaves_nothing(packages, tmp_path, change):
    if change == "another":
        packages["usr/small.jpg"] += b"more"
    else:
        del packages["usr/small.jpg"]
    with pytest.raises(UserError, match=r"usr/small.jpg of walls: expected SHA-256 \w+, received (\w{64}|no file)"):
        prepare_photos.prepare_photos(str(tmp_path / "data"), print)
    assert not list((tmp_path / "data").iterdir())


def test_without_apt_the_package_and_the_tool_are_named(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.shutil, "which", lambda tool: None)
    with pytest.raises(UserError, match="walls: expected Debian's apt-get"):
        prepare_photos.prepare_photos(str(tmp_path / "data"), print)


def test_photos_that_are_not_prepared_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=rf"not prepared in {tmp_path}/photos: run tools/prepare_data.py photos"):
        photos.load()


def test_a_damaged_photo_is_named(packages, tmp_path):
    prepare_photos.prepare_photos(str(tmp_path), print)
    path = tmp_path / "photos/train/small.png"
    PIL.Image.new("RGB", (3, 4)).save(path)
    with pytest.raises(UserError, match=r"small.png: not the photo .*expected 40 x 50 pixels, received 4 x 3"):
        photos.load(str(tmp_path))
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"small.png: not the photo that was prepared"):
        photos.load(str(tmp_path))


def test_the_tool_says_where_photos_are(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/index.json").write_text(json.dumps({"version": photos.VERSION, "train": [1, 2], "test": [3]}))
    command = [sys.executable, "tools/prepare_data.py", "photos", f"--data_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"photos: train 2, test 1 in {tmp_path}/photos; next: tools/train_float.py" in done.stdout


def test_the_lists_are_those_of_21_and_7_photos():
    assert len({photo.name for photo in prepare_photos.TRAIN}) == 21
    assert len({photo.name for photo in prepare_photos.TEST}) == 7
    assert all(len(photo.checksum) == 64 for photo in (*prepare_photos.TRAIN, *prepare_photos.TEST))


def test_crops_are_seeded_squares_from_details_to_whole_scenes(photo):
    some = photos.Photos([photo(1, 64, 90), photo(2, 70, 66)], [])
    made = photos.crops(some, 32, 10, seed=0)
    assert made.shape == (10, 32, 32, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(photos.crops(some.train, 32, 10, seed=0), made)
    np.testing.assert_array_equal(photos.crops(some, 32, 4, seed=0), made[:4])
    assert np.any(photos.crops(some, 32, 10, seed=1) != made)
    # A square of another size is scaled: neighbours differ more than within the photo itself.
    steepness = [np.abs(np.diff(crop.astype(int), axis=1)).mean() for crop in photos.crops(some.train[:1], 32, 40, 2)]
    assert max(steepness) > 1.5 * min(steepness)


@pytest.mark.parametrize(("some", "received"), [([np.zeros((20, 40, 3), np.uint8)], r"\(20, 40\)"), ([], "no photo")])
def test_photos_smaller_than_a_crop_are_refused(some, received):
    with pytest.raises(UserError, match=f"at least 32 pixels each way, received {received}"):
        photos.crops(some, 32, 1, 0)
