"""What a trial of the campaign is, and the words in which trials are written.

A trial is a line in a module `trials_*.py`: what is given, what is done to it, the command, and what must come.

    refused("evaluate --run_dir=run --bits=4", "--bits", given="run")
    refused("search --run_dir=run", "config.json", given="run", edit=field("run/config.json", "seed", None))
    right("predict --model=model.keras up.png", "up.png: top 9", given="model up")
    call("quantizers.get('lsqq')", "did you mean lsq?")

Commands are written as in a shell, without `tfqnas`. They run in a new directory that holds the given things (see
`states.py`), so paths are relative to it.
"""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Edit = Callable[[pathlib.Path], None]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A command, or a call of the library, and what must come.

    Attributes:
        what: the command, or the code of the call.
        says: what the line of the error says, or the output of a command that succeeds.
        succeeds: whether the command must succeed.
        given: names of the things in the directory, separated by spaces.
        edits: what is done to them before. env: variables of the environment.
        called: whether `what` is Python.
        disk: the largest file that can be written, in bytes.
        writes: names of files that the command may change although it is refused.
        user: whether files without permission are closed to the command, as they are to all but root.
        inside: the directory in which the command runs. removed: whether that is removed when the command begins.
        beside: Python that another process runs meanwhile, from the line on that it prints.
    """

    what: str
    says: tuple[str, ...]
    succeeds: bool
    given: str = ""
    edits: tuple[Edit, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    called: bool = False
    disk: int | None = None
    writes: tuple[str, ...] = ()
    user: bool = False
    inside: str = "."
    removed: bool = False
    beside: str = ""


def refused(what: str, *says: str, **more: Any) -> Trial:
    """A command that must end with one clear line."""
    return _trial(what, says, False, **more)


def right(what: str, *says: str, **more: Any) -> Trial:
    """A command that must succeed with this result."""
    return _trial(what, says, True, **more)


def call(what: str, *says: str, **more: Any) -> Trial:
    """A call of the library that must raise an error that says what is wrong."""
    return _trial(what, says, False, called=True, **more)


def value(what: str, *says: str, **more: Any) -> Trial:
    """An expression of the library whose value must be this."""
    return _trial(what, says, True, called=True, **more)


def _trial(what: str, says: Sequence[str], succeeds: bool, edit: Edit | Sequence[Edit] = (), **more: Any) -> Trial:
    edits = (edit,) if callable(edit) else tuple(edit)
    return Trial(what, tuple(says), succeeds, edits=edits, **more)


# -- What is done to files --------------------------------------------------------------------------------------------


MISSING = object()


def field(path: str, name: str, new: Any = MISSING) -> Edit:
    """Another value in a JSON file, or none; `name` is a path of names and numbers, such as "stages.0.channels"."""

    def edit(home: pathlib.Path) -> None:
        whole = json.loads((home / path).read_text())
        *parents, last = [int(key) if key.lstrip("-").isdigit() else key for key in name.split(".")]
        place = whole
        for key in parents:
            place = place[key]
        if new is MISSING:
            del place[last]
        else:
            place[last] = new
        (home / path).write_text(json.dumps(whole))

    return edit


def lines(path: str, change: Callable[[list[str]], list[str]]) -> Edit:
    """Other lines in a text file."""

    def edit(home: pathlib.Path) -> None:
        (home / path).write_text("".join(f"{line}\n" for line in change((home / path).read_text().splitlines())))

    return edit


def text(path: str, content: str | bytes) -> Edit:
    """A file with this content."""

    def edit(home: pathlib.Path) -> None:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return edit


def cut(path: str, share: float = 0.5) -> Edit:
    """Only the beginning of a file."""
    return lambda home: os.truncate(home / path, int((home / path).stat().st_size * share))


def delete(path: str) -> Edit:
    """The file or directory is gone."""
    return lambda home: shutil.rmtree(home / path) if (home / path).is_dir() else (home / path).unlink()


def directory(path: str) -> Edit:
    """An empty directory in the place of a file."""

    def edit(home: pathlib.Path) -> None:
        (home / path).unlink(missing_ok=True)
        (home / path).mkdir(parents=True)

    return edit


def pipe(path: str) -> Edit:
    """A pipe in the place of a file: who reads it waits for ever."""

    def edit(home: pathlib.Path) -> None:
        (home / path).unlink(missing_ok=True)
        os.mkfifo(home / path)

    return edit


def link(path: str, target: str) -> Edit:
    """A symbolic link at `path`."""

    def edit(home: pathlib.Path) -> None:
        (home / path).unlink(missing_ok=True)
        (home / path).symlink_to(target)

    return edit


def move(path: str, new: str) -> Edit:
    """A file or directory under another name."""

    def edit(home: pathlib.Path) -> None:
        (home / new).parent.mkdir(parents=True, exist_ok=True)
        (home / path).rename(home / new)

    return edit


def copy(path: str, new: str) -> Edit:
    """A file once more."""
    return lambda home: shutil.copy(home / path, home / new)


def closed(path: str, mode: int = 0) -> Edit:
    """A file or directory without permission to read or write; the trial has `user=True`."""
    return lambda home: (home / path).chmod(mode)
