"""Runs trials in this process, which loads TensorFlow once for all of them, and says what came of each."""

import contextlib
import ctypes
import dataclasses
import io
import os
import pathlib
import re
import resource
import shlex
import signal
import stat
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from unittest import mock

from tests.campaign.trials import Trial
from tfqnas import files
from tfqnas.cli import main
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A trial that has not ended after so many seconds hangs. The longest take five.
LONGEST = 60
# In the order of the table. Those after the first two must not come.
OUTCOMES = ("clear line", "right result", "other line", "other files", "traceback", "hang", "silence")
# What a call of the library may raise, with a message for who called it.
FOR_CALLERS = (UserError, ValueError, TypeError, OSError)
# The longest message, in lines of standard error: an error, and how to go on.
LINES = 4


class Hang(BaseException):
    """The time of a trial is up."""


@dataclasses.dataclass
class Outcome:
    """What came of a trial: one of `OUTCOMES`, the command's output, and the seconds of CPU that it took."""

    kind: str
    output: str
    seconds: float


def run(trial: Trial, home: pathlib.Path) -> Outcome:
    """Makes the edits in `home`, which holds what is given, and runs the trial there."""
    for edit in trial.edits:
        edit(home)
    before, began = _files(home), time.process_time()
    code, out, err, failure = (_called if trial.called else _commanded)(trial, home)
    seconds = time.process_time() - began
    kind = _kind(trial, code, out, err, failure)
    if kind == "clear line" and (changed := _changed(before, _files(home), trial)):
        kind, err = "other files", f"{err}changed: {changed}\n"
    shown = "".join(traceback.format_exception(failure)) if failure else ""
    return Outcome(kind, f"exit code {code}\n{out[-3000:]}{err[-3000:]}{shown[-3000:]}", seconds)


def table(outcomes: dict[str, Counter]) -> str:
    """The table of the campaign: a row for each area, and one for all."""
    rows = {**outcomes, "all": sum(outcomes.values(), Counter())}
    head = f"{'area':<12}{'tried':>7}" + "".join(f"{kind:>14}" for kind in OUTCOMES)
    return "\n".join(
        [head, *(f"{a:<12}{c.total():>7}" + "".join(f"{c[kind]:>14}" for kind in OUTCOMES) for a, c in rows.items())]
    )


def _kind(trial, code, out, err, failure) -> str:
    if isinstance(failure, Hang):
        return "hang"
    if failure or "Traceback (most recent call last)" in err:
        return "traceback"
    if trial.succeeds:
        if code:
            return "other line" if "error: " in err else "silence"
        return "right result" if all(part in out + err for part in trial.says) else "silence"
    found = re.search(r"^error: .*", err, re.MULTILINE | re.DOTALL)
    if not code or not found:
        return "silence"
    short = trial.called or found[0].count("\n") <= LINES  # Keras adds the arguments of a call
    clear = all(part in found[0] for part in trial.says) and short
    return "clear line" if clear else "other line"


def _commanded(trial: Trial, home: pathlib.Path):
    out, err = io.StringIO(), io.StringIO()
    words = shlex.split(trial.what)
    code, failure = 0, None
    files.warn.cache_clear()  # as in a process of its own
    with (
        _place(trial, home),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["tfqnas", *words]),
        _limits(trial),
    ):
        try:
            main.main()
        except SystemExit as ended:
            code = ended.code or 0
            if isinstance(code, str):  # as Python does
                print(code, file=sys.stderr)
        except BaseException as error:
            failure = error
    return code, out.getvalue(), err.getvalue(), failure


def _called(trial: Trial, home: pathlib.Path):
    import keras
    import numpy as np

    import tfqnas
    from tfqnas import quantizers, spaces

    names = {"keras": keras, "np": np, "quantizers": quantizers, "spaces": spaces, "tfqnas": tfqnas}
    # A caller imports what is called.
    *imports, expression = trial.what.split("; ")
    with _place(trial, home), _limits(trial):
        try:
            exec("\n".join(imports), names)
            return 0, f"{eval(expression, names)}", "", None
        except FOR_CALLERS as error:
            return 1, "", f"error: {error}\n", None
        except BaseException as error:
            return 1, "", "", error


@contextlib.contextmanager
def _place(trial: Trial, home: pathlib.Path):
    environment = {"XDG_CACHE_HOME": str(home.parent / "cache"), **trial.env}
    with contextlib.chdir(home), mock.patch.dict(os.environ, environment), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which a command shows, and ends well
        os.chdir(trial.inside)
        if trial.removed:
            os.rmdir(home / trial.inside)
        with _beside(trial.beside) if trial.beside else contextlib.nullcontext():
            yield


@contextlib.contextmanager
def _beside(code: str):
    """Another process, which ends when its standard input does."""
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n{code}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield
        finally:
            process.stdin.close()
            process.kill()


@contextlib.contextmanager
def _limits(trial: Trial):
    """The time, the disk and the permissions that a trial has."""
    size = resource.getrlimit(resource.RLIMIT_FSIZE)

    def up(number, frame):
        raise Hang

    kept = signal.signal(signal.SIGALRM, up)
    signal.alarm(LONGEST)
    if trial.disk is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (trial.disk, size[1]))
    try:
        with _without_privileges() if trial.user and not os.geteuid() else contextlib.nullcontext():
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, kept)
        resource.setrlimit(resource.RLIMIT_FSIZE, size)


@contextlib.contextmanager
def _without_privileges():
    """Root may read and write whatever the permissions say, by two capabilities, which this thread gives up."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kept, fewer = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    if libc.capget(header, kept):
        raise OSError(ctypes.get_errno(), "capget")
    fewer[:] = kept
    fewer[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of those in effect
    if libc.capset(header, fewer):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, kept)


def _files(home: pathlib.Path) -> dict[str, object]:
    """What stands in each file."""
    found = {}
    for directory, _, names in os.walk(home):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = pathlib.Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else status.st_mode
            found[os.path.relpath(path, home)] = content
    return found


def _changed(before: dict, after: dict, trial: Trial) -> list[str]:
    names = (name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    locks = ".lock" if trial.beside else "\0"
    return sorted(name for name in names if os.path.basename(name) not in trial.writes and not name.endswith(locks))
