"""Commands, called as people call them: in this process, or in one of their own."""

import contextlib
import io
import pathlib
import runpy
import subprocess
import sys
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(name, *arguments):
    """Runs `python tools/NAME.py` in this process; returns `(exit code, standard output, standard error)`.

    TensorFlow is loaded once for all of them.
    """
    path = str(ROOT / "tools" / f"{name}.py")
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", [path, *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
    return code, out.getvalue(), err.getvalue()


def process(*command):
    """Runs a Python program in a process of its own; returns as `tool`."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def refused(expected, name, *arguments):
    """Asserts that a tool ends with a message that contains `expected`, and an exit code that is not 0."""
    code, out, err = tool(name, *arguments)
    assert code != 0, out
    assert expected in err, err
