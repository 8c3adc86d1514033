import gzip
import hashlib
import pathlib
import struct
import subprocess
import sys
import threading
import time
import types

import pytest

from tfqnas.data import prepare as module
from tfqnas.data.prepare import check
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def offline(monkeypatch):
    """No site answers."""
    monkeypatch.setattr(module, "_ask", lambda url: "cannot be reached (ConnectionError)")


def test_an_unreachable_site_says_what_to_do(tmp_path, offline):
    expected = r"cifar10 cannot be downloaded: \S+: cannot be reached .*by hand into .*manual \(cifar-10-binary"
    with pytest.raises(UserError, match=expected):
        check("cifar10", str(tmp_path), print)


def test_a_site_that_never_answers_costs_no_more_than_the_patience(monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(module, "_ask", lambda url: stop.wait(60))
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    began = time.monotonic()
    assert module._silent_sites({"http://a.example/x": None, "http://b.example/y": None}) == [
        "a.example: no answer",
        "b.example: no answer",
    ]
    assert time.monotonic() - began < 30  # not the 60 s of the two calls, which still run
    stop.set()


def test_names_that_are_never_looked_up_do_not_keep_the_process(tmp_path):
    code = (
        "import socket, sys, time, runpy, tensorflow_datasets\n"
        "socket.getaddrinfo = lambda *a, **k: time.sleep(120)\n"
        f"sys.argv = ['prepare_data', 'cifar10', '--data_dir={tmp_path}']\n"
        "runpy.run_path('tools/prepare_data.py', run_name='__main__')\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert time.monotonic() - began < 60
    assert done.returncode == 1 and "cifar10 cannot be downloaded: " in done.stderr, done.stderr
    assert ": no answer. Give this machine access" in done.stderr and "cifar-10-binary.tar.gz" in done.stderr


@pytest.mark.parametrize("others", [False, True], ids=["nothing there", "files of another data set there"])
def test_files_to_be_downloaded_by_hand_are_asked_for_with_the_instructions(tmp_path, others):
    if others:
        (tmp_path / "downloads/manual").mkdir(parents=True)
        (tmp_path / "downloads/manual/other.gz").write_bytes(b"")
    expected = r"(?s)imagenet2012 has to be downloaded by hand into .*manual \(not there: ILSVRC\S+, .*_img_val.tar"
    with pytest.raises(UserError, match=expected):
        check("imagenet2012", str(tmp_path), print)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"^NAME: expected the name of a TFDS data set \(near: fashion_mnist"):
        check("fashion-mnist", str(tmp_path), print)


# -- Fashion-MNIST from Debian -----------------------------------------------------------------------------------


def test_the_gzip_header_of_the_original_is_put_back():
    content = b"pixels" * 1000
    packed = gzip.compress(content, mtime=0)
    whole = module._with_gzip_header(packed, "train-images-idx3-ubyte.gz")
    assert gzip.decompress(whole) == content
    assert whole[3] == 8 and struct.unpack("<I", whole[4:8]) == (1504176606,) and whole[8:10] == b"\x00\x03"
    assert whole[10:34] == b"train-images-idx3-ubyte\x00" and whole[34:] == packed[10:]
    assert struct.unpack("<I", module._with_gzip_header(packed, "t10k-x.gz")[4:8]) == (1504176627,)
    assert module._with_gzip_header(whole, "train-images-idx3-ubyte.gz") == whole


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
    whole = module._with_gzip_header(gzip.compress(b"labels", mtime=0), "t10k-labels.gz")
    module._fashion_mnist_from_debian(wanted(hashlib.sha256(whole).hexdigest()), tmp_path / "manual")
    assert (tmp_path / "manual/t10k-labels.gz").read_bytes() == whole


def test_another_file_than_the_one_tfds_knows_is_refused(debian, tmp_path):
    with pytest.raises(UserError, match="t10k-labels.gz of Debian's package .* expected SHA-256 00, received"):
        module._fashion_mnist_from_debian(wanted("00"), tmp_path / "manual")
    assert not (tmp_path / "manual").exists()


def test_without_debian_and_its_site_the_files_are_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, "which", lambda tool: None)
    with pytest.raises(UserError, match=r"expected Debian's apt-get or access .* t10k-labels.gz by hand into"):
        module._fashion_mnist_from_debian(wanted("00"), tmp_path)


def test_a_failing_package_manager_is_quoted(monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 100, "", "E: Unable to locate package\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match="apt-get -q download .* failed: E: Unable to locate package .*apt-get update"):
        module._fashion_mnist_from_debian(wanted("00"), tmp_path)
