import pathlib
import threading

import pytest

from tests import processes
from tfqnas.data import prepare as module
from tfqnas.data.prepare import check
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def offline(monkeypatch):
    """No site answers."""
    monkeypatch.setattr(module, "_ask", lambda url: "cannot be reached (ConnectionError)")


@pytest.mark.tensorflow
def test_an_unreachable_site_says_what_to_do(tmp_path, offline):
    expected = r"cifar10 cannot be downloaded: \S+: cannot be reached .*by hand into .*manual \(cifar-10-binary"
    with pytest.raises(UserError, match=expected):
        check("cifar10", str(tmp_path), print)


def test_a_site_that_never_answers_costs_no_more_than_the_patience(monkeypatch):
    stop, ended = threading.Event(), []
    monkeypatch.setattr(module, "_ask", lambda url: stop.wait() and ended.append(url))
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    assert module._silent_sites({"http://a.example/x": None, "http://b.example/y": None}) == [
        "a.example: no answer",
        "b.example: no answer",
    ]
    assert not ended  # the two calls still run
    stop.set()


@pytest.mark.tensorflow
def test_names_that_are_never_looked_up_do_not_keep_the_process(tmp_path):
    code = (
        "import socket, sys, time, runpy, tensorflow_datasets\n"
        "socket.getaddrinfo = lambda *a, **k: time.sleep(10_000)\n"
        f"sys.argv = ['prepare_data', 'cifar10', '--data_dir={tmp_path}']\n"
        "runpy.run_path('tools/prepare_data.py', run_name='__main__')\n"
    )
    done = processes.run(["-c", code], cwd=ROOT)
    assert done.returncode == 1 and "cifar10 cannot be downloaded: " in done.stderr, done.stderr
    assert ": no answer. Give this machine access" in done.stderr and "cifar-10-binary.tar.gz" in done.stderr


@pytest.mark.tensorflow
def test_fashion_mnist_is_offered_from_debian(tmp_path, offline):
    with pytest.raises(UserError, match=r"prepared\. A checkout on Debian .* scripts/data_from_packages.py fashion_m"):
        check("fashion_mnist", str(tmp_path), print)


@pytest.mark.tensorflow
@pytest.mark.parametrize("others", [False, True], ids=["nothing there", "files of another data set there"])
def test_files_to_be_downloaded_by_hand_are_asked_for_with_the_instructions(tmp_path, others):
    if others:
        (tmp_path / "downloads/manual").mkdir(parents=True)
        (tmp_path / "downloads/manual/other.gz").write_bytes(b"")
    expected = r"(?s)imagenet2012 has to be downloaded by hand into .*manual \(not there: ILSVRC\S+, .*_img_val.tar"
    with pytest.raises(UserError, match=expected):
        check("imagenet2012", str(tmp_path), print)


@pytest.mark.tensorflow
def test_an_unknown_name_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"^NAME: expected the name of a TFDS data set \(near: fashion_mnist"):
        check("fashion-mnist", str(tmp_path), print)
