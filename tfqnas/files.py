"""Reads and writes files so that a killed process or a full disk leaves no damaged file."""

import contextlib
import errno
import functools
import itertools
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tfqnas.errors import explained
from tfqnas.locks import sweep, temporary_name
from tfqnas.records import CutOff, RecordError, decode

# Bytes of a file, and of a line of records: a hundred times what any command writes.
LARGEST = 2**28
_LONGEST_LINE = 2**24


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
    """Writes `value` as indented JSON atomically.

    Numpy scalars and arrays become numbers and lists; numbers that are not finite, which JSON does not have, null.
    """
    return write_atomically(path, _json(value, 2) + "\n")


def read_regular(path: str | Path, largest: int = LARGEST) -> bytes:
    """The content of a file.

    Raises:
        OSError: it is none, but a directory, or a pipe that would block.
        RecordError: it has more than `largest` bytes.
    """
    with _opened(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise RecordError(f"{path}: expected a file of at most {largest / 1e6:,.0f} MB; is it another file?")
    return content


def _opened(path: str | Path) -> BinaryIO:
    """The open file; raises `OSError` if it is none."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a file, but a directory, pipe or device", str(path))
    return open(descriptor, "rb")


def read_json(path: str | Path, kind: Any = Any) -> Any:
    """The JSON value in `path`, of a type of `tfqnas.records`; raises `RecordError` with file and place otherwise."""
    return decode(read_regular(path), str(path), kind)


def append_jsonl(path: str | Path, record: Any) -> None:
    """Adds `record` as one line. A line that a killed process left incomplete is ended first."""
    path = Path(path)
    line = _json(record).encode() + b"\n"
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


@functools.cache
def warn(line: str) -> None:
    """Says a line on standard error, once."""
    print(line, file=sys.stderr)


def read_jsonl(
    path: str | Path,
    kind: Any = Any,
    say: Callable[[str], object] = warn,
    check: Callable[[Any], object] = lambda record: None,
) -> list[Any]:
    """The records in `path`, a line each.

    Args:
        path: the file, which may be missing.
        kind: their type, see `tfqnas.records`.
        say: called with a warning for each line that a killed process left incomplete; these are left out.
        check: called with each record; its `ValueError` says what is wrong with it.

    Raises:
        OSError: it is no file, but a directory, or a pipe that would block.
        RecordError: a whole line is not of this type. The message names file, line and place.
    """
    records = []
    with contextlib.suppress(FileNotFoundError), _opened(path) as file:
        for number in itertools.count(1):
            if not (line := file.readline(_LONGEST_LINE)):
                break
            where = f"{path}, line {number}"
            if len(line) == _LONGEST_LINE:
                raise RecordError(f"{where}: expected at most {_LONGEST_LINE / 1e6:,.0f} MB; is it another file?")
            try:
                record = decode(line, "", kind)
                check(record)
                records.append(record)
            except CutOff:
                say(f"warning: {path}: line {number} is cut off or damaged, and left out")
            except ValueError as error:
                raise RecordError(f"{where}: {error}; mend or remove that line, and repeat the command") from None
    return records


def _json(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, indent=indent, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float)):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    return _finite(_plain(value))


def _plain(value: Any) -> Any:
    """Converts numpy scalars and arrays (without importing numpy) and paths for `json`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")
