"""Reads and writes files so that a killed process or a full disk leaves no damaged file."""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tfqnas.errors import UserError, explained
from tfqnas.locks import sweep, temporary_name


@contextlib.contextmanager
def replaced(path: str | Path, lost: str = "nothing was written, an old file is untouched") -> Iterator[Path]:
    """Gives the path of a temporary file next to `path`, and in the end renames the file that was written there.

    Readers see either the old or the new content. Missing directories are created. On failure the temporary file is
    removed, an old file stays unchanged, and the `OSError` names the path and says what to do.

    Args:
        path: path of the file.
        lost: what has failed, for the message.
    """
    path = Path(path)
    temporary = path.with_name(temporary_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise explained(error, path, lost) from error


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Writes a file as `replaced` does."""
    data = content.encode() if isinstance(content, str) else content
    with replaced(path, f"{len(data):,} bytes not written, an old file is untouched") as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Writes `value` as indented JSON atomically. Numpy scalars and arrays become numbers and lists."""
    return write_atomically(path, json.dumps(value, indent=2, default=_plain) + "\n")


def read_regular(path: str | Path) -> bytes:
    """The content of a file; raises `OSError` for what is none, such as a directory, or a pipe that would block."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file, but a directory, pipe or device", str(path))
    with open(descriptor, "rb") as file:
        return file.read()


def read_json(path: str | Path) -> Any:
    """The JSON value in `path`; raises `UserError` with the file's name if it is not valid JSON."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); was it cut off, or edited by hand?") from error


def append_jsonl(path: str | Path, record: Any) -> None:
    """Adds `record` as one line. A line that a killed process left incomplete is ended first."""
    path = Path(path)
    line = json.dumps(record, default=_plain).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            try:
                if file.write(line) != len(line):  # a full disk takes a part without an error
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise explained(error, path, "a line was not added") from error


def read_jsonl(path: str | Path, say: Callable[[str], object] = lambda line: None) -> list[Any]:
    """The records in `path`, an empty list if there is no file.

    Lines that a killed process left incomplete are left out, and `say` is called with a warning for each.
    """
    records = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                say(f"warning: {path}: line {number} is cut off or damaged, and left out")
    return records


def _plain(value: Any) -> Any:
    """Converts numpy scalars and arrays (without importing numpy) and paths for `json`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")
