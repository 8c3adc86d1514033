import gzip
import hashlib
import json
import pathlib
import struct
import subprocess
import types

import numpy as np
import pytest

from scripts import data_from_packages as module
from scripts.data_from_packages import Source
from tests.data.conftest import encoded_as, smooth
from tfqnas.data import photos
from tfqnas.errors import UserError

# -- photos -------------------------------------------------------------------------------------------------------


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A Debian package with two photos, one of them large, and a Python package with one; no network."""
    wide, small = encoded_as(smooth(1, 30, 2100)), encoded_as(smooth(2, 40, 50), "JPEG", quality=95)
    tested = tmp_path / "tested.png"
    tested.write_bytes(encoded_as(smooth(3, 20, 30)))

    def source(name, package, path, content):
        return Source(name, package, path, hashlib.sha256(content).hexdigest())

    train = (source("wide", "walls", "usr/wide.png", wide), source("small", "walls", "usr/small.jpg", small))
    monkeypatch.setattr(module, "TRAIN", train)
    monkeypatch.setattr(module, "TEST", (source("tested", "some", "tested.png", tested.read_bytes()),))
    monkeypatch.setattr(module, "file_of", lambda package, path: tmp_path / path)
    contents = {"usr/wide.png": wide, "usr/small.jpg": small}

    def run(command, cwd, **_):
        if command[0] == "apt-get":
            (pathlib.Path(cwd) / f"{command[-1]}_1_all.deb").write_bytes(b"")
        for path, content in contents.items() if command[0] == "dpkg-deb" else ():
            (pathlib.Path(cwd) / path).parent.mkdir(parents=True, exist_ok=True)
            (pathlib.Path(cwd) / path).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.shutil, "which", lambda tool: tool)
    return contents


def test_photos_are_gathered_once_and_large_ones_reduced(packages, tmp_path, monkeypatch):
    lines = []
    made = module.prepare_photos(str(tmp_path / "data"), lines.append)
    assert [r["size"] for r in made["train"]] == [[29, 2040], [40, 50]] and made["longest_side"] == 2040
    found = photos.load(str(tmp_path / "data"))
    assert found.train_names == ("wide", "small") and found.test_names == ("tested",)
    assert [p.shape for p in found.train] == [(29, 2040, 3), (40, 50, 3)]
    np.testing.assert_array_equal(found.test[0], smooth(3, 20, 30))
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["photos"]

    monkeypatch.setattr(module, "unpack_debian", None)  # it would fail
    again = module.prepare_photos(str(tmp_path / "data"), lines.append)
    assert json.loads(json.dumps(again)) == made
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
    module.prepare_photos(str(tmp_path), print)
    assert len(photos.load(str(tmp_path)).train) == 2
    assert not list(tmp_path.glob(".photos*"))


@pytest.mark.parametrize("change", ["another", "missing"])
def test_another_release_is_refused_and_leaves_nothing(packages, tmp_path, change):
    if change == "another":
        packages["usr/small.jpg"] += b"more"
    else:
        del packages["usr/small.jpg"]
    with pytest.raises(UserError, match=r"usr/small.jpg of walls: expected SHA-256 \w+, received (\w{64}|no file)"):
        module.prepare_photos(str(tmp_path / "data"), print)
    assert not list((tmp_path / "data").iterdir())


def test_without_apt_the_package_and_the_tool_are_named(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda tool: None)
    with pytest.raises(UserError, match="walls: expected Debian's apt-get"):
        module.prepare_photos(str(tmp_path / "data"), print)


def test_the_lists_are_those_of_21_and_7_photos():
    assert len({photo.name for photo in module.TRAIN}) == 21
    assert len({photo.name for photo in module.TEST}) == 7
    assert all(len(photo.checksum) == 64 for photo in (*module.TRAIN, *module.TEST))


# -- Fashion-MNIST -------------------------------------------------------------------------------------------------


def test_the_gzip_header_of_the_original_is_put_back():
    content = b"pixels" * 1000
    packed = gzip.compress(content, mtime=0)
    whole = module.with_gzip_header(packed, "train-images-idx3-ubyte.gz")
    assert gzip.decompress(whole) == content
    assert whole[3] == 8 and struct.unpack("<I", whole[4:8]) == (1504176606,) and whole[8:10] == b"\x00\x03"
    assert whole[10:34] == b"train-images-idx3-ubyte\x00" and whole[34:] == packed[10:]
    assert struct.unpack("<I", module.with_gzip_header(packed, "t10k-x.gz")[4:8]) == (1504176627,)
    assert module.with_gzip_header(whole, "train-images-idx3-ubyte.gz") == whole


@pytest.fixture
def debian(monkeypatch):
    """apt-get and dpkg-deb that make a package with a few bytes in it."""

    def run(command, cwd, **_):
        if command[0] == "apt-get":
            (pathlib.Path(cwd) / "dataset-fashion-mnist_1_all.deb").write_bytes(b"")
        else:
            folder = pathlib.Path(cwd) / "usr/share"
            folder.mkdir(parents=True)
            (folder / "t10k-labels.gz").write_bytes(gzip.compress(b"labels", mtime=0))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.shutil, "which", lambda tool: tool)


def wanted(checksum):
    return {"http://site.example/t10k-labels.gz": types.SimpleNamespace(filename="t10k-labels.gz", checksum=checksum)}


def test_the_package_is_put_where_tfds_looks_first(debian, tmp_path):
    whole = module.with_gzip_header(gzip.compress(b"labels", mtime=0), "t10k-labels.gz")
    module.fashion_mnist_files(wanted(hashlib.sha256(whole).hexdigest()), tmp_path / "manual")
    assert (tmp_path / "manual/t10k-labels.gz").read_bytes() == whole


def test_another_file_than_the_one_tfds_knows_is_refused(debian, tmp_path):
    with pytest.raises(UserError, match="t10k-labels.gz of Debian's package .* expected SHA-256 00, received"):
        module.fashion_mnist_files(wanted("00"), tmp_path / "manual")
    assert not (tmp_path / "manual").exists()


def test_a_failing_package_manager_is_quoted(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 100, "", "E: Unable to locate package\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match="apt-get -q download .* failed: E: Unable to locate package .*apt-get update"):
        module.fashion_mnist_files(wanted("00"), tmp_path)


def test_a_mistake_ends_with_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(module.shutil, "which", lambda tool: None)
    monkeypatch.setattr(module, "TEST", ())
    assert module.main(["photos", f"--data_dir={tmp_path}"]) == 1
    assert capsys.readouterr().err.startswith("error: mate-backgrounds: expected Debian's apt-get")
