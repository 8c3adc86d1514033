"""A fake phone behind `adb`, as the tests of measurements on devices use it."""

import contextlib
import io
import json
import os
import pathlib
import stat
import subprocess
import sys
import types

import pytest

from tests.tflite_export import fake_adb
from tflite_export import android


class Clock:
    """Seconds that pass while somebody sleeps."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Fake:
    """The phones behind the fake `adb`, and files to measure."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory / "phone"
        self.directory.mkdir()
        monkeypatch.setenv("FAKE_ADB", str(self.directory))
        self.be()
        self.models = directory / "models"
        self.models.mkdir()
        self.clock = Clock()

    def be(self, **scenario):
        (self.directory / "scenario.json").write_text(json.dumps(scenario))

    def model(self, name="m.tflite", content=b"weights"):
        path = self.models / name
        path.write_bytes(b"\x1c\x00\x00\x00TFL3" + content)
        return path

    def device(self, serial="R58N", **settings):
        return android.Device(android.Adb(serial), clock=self.clock, sleep=self.clock.sleep, **settings)

    def calls(self):
        """What `adb` was told since the last time."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def left(self):
        """What lies on the devices."""
        return sorted(str(p.relative_to(self.directory / "files")) for p in (self.directory / "files").rglob("*.*"))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The fake as a program on PATH."""
    path = tmp_path / "bin" / "adb"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable} -IS\n{pathlib.Path(fake_adb.__file__).read_text()}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return Fake(tmp_path, monkeypatch)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The fake without its process, for speed."""

    def run(command, **settings):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = fake_adb.main(command[1:])
        return subprocess.CompletedProcess(command, code, printed.getvalue())

    names = ("DEVNULL", "PIPE", "STDOUT", "TimeoutExpired")
    here = types.SimpleNamespace(run=run, **{name: getattr(subprocess, name) for name in names})
    monkeypatch.setattr(android, "subprocess", here)
    return Fake(tmp_path, monkeypatch)
