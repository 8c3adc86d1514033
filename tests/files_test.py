import errno
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from tfqnas import files
from tfqnas.errors import UserError


def names(directory):
    return sorted(p.name for p in directory.iterdir())


@pytest.mark.parametrize("content", [b"\x00\xff", "ä text\n", b""])
def test_what_is_written_is_what_is_read(tmp_path, content):
    path = files.write_atomically(tmp_path / "new" / "a.bin", content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["a.bin"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = files.write_atomically(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch, failing):
    path = files.write_atomically(tmp_path / "model.keras", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="free space") as caught:
        files.write_atomically(path, "new" * 1000)
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert "3,000 bytes" in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["model.keras"]


def limited(action: str) -> str:
    """`action`, printing its OSError."""
    head = "import sys; from tfqnas import files; path = sys.argv[1]\n"
    return head + "\n".join(["try:", f"    {action}", "except OSError as error:", "    print(error)"])


def run_limited(action, path):
    """Runs it where no file can grow beyond 4,096 bytes: the kernel itself refuses, as on a full disk."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # otherwise the kernel kills instead of refusing
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-c", limited(action), str(path)]
    return subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=True).stdout


def test_a_write_that_the_kernel_refuses_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    assert str(path) in run_limited("files.write_atomically(path, b'x' * 100_000)", path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    path = tmp_path / "log.jsonl"
    files.append_jsonl(path, {"step": 1})
    assert str(path) in run_limited("files.append_jsonl(path, 'x' * 100_000)", path)
    assert path.read_text() == '{"step": 1}\n'


def test_a_directory_that_is_a_file_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError, match="run/config.json"):
        files.write_atomically(tmp_path / "run" / "config.json", "{}")


def test_json_round_trip_with_numpy_values(tmp_path):
    value = {"accuracy": np.float32(0.5), "code": np.arange(3, dtype=np.int32), "path": tmp_path}
    path = files.write_json(tmp_path / "a.json", value)
    assert files.read_json(path) == {"accuracy": 0.5, "code": [0, 1, 2], "path": str(tmp_path)}


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe"])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="config.json"):
        files.read_json(path)


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.json"):
        files.read_json(tmp_path / "none.json")


def test_appended_records_come_back_in_order(tmp_path):
    path = tmp_path / "run" / "log.jsonl"
    records = [{"step": step, "loss": 1 / (step + 1)} for step in range(3)]
    for record in records:
        files.append_jsonl(path, record)
    assert files.read_jsonl(path) == records
    assert files.read_jsonl(tmp_path / "none") == []


def test_a_line_cut_off_by_a_kill_spoils_no_other(tmp_path):
    path = tmp_path / "log.jsonl"
    whole = json.dumps({"step": 1}) + "\n"
    path.write_text(whole + whole[:5])
    assert files.read_jsonl(path) == [{"step": 1}]
    files.append_jsonl(path, {"step": 2})
    assert files.read_jsonl(path) == [{"step": 1}, {"step": 2}]


def test_a_value_without_json_form_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match="object"):
        files.append_jsonl(tmp_path / "log.jsonl", {"a": object()})
    assert names(tmp_path) == []
