"""Files that are either whole or not there: a run may be killed at any moment, and its disk may fill up."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfqnas.errors import UserError

_ADVICE = {
    errno.ENOSPC: "free space on that disk and repeat the command",
    errno.EDQUOT: "your quota there is used up: remove something and repeat the command",
    errno.EACCES: "choose a directory that you may write to",
    errno.EPERM: "choose a directory that you may write to",
    errno.EROFS: "choose a directory on a file system that can be written to",
}


def write_atomically(path: str | Path, content: bytes | str) -> Path:
    """Writes a temporary file beside `path` and renames it, so that readers see the old content or the new.

    Missing directories are made. On failure the temporary file is removed, an old file stays as it was, and
    the `OSError` names the path and says what to do.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise _explained(error, path, f"{len(data):,} bytes not written, an old file is untouched") from error
    return path


def write_json(path: str | Path, value: Any) -> Path:
    """`value` as indented JSON, atomically; numpy scalars and arrays become numbers and lists."""
    return write_atomically(path, json.dumps(value, indent=2, default=_plain) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON value in `path`; errors name the file."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); was it cut off, or edited by hand?") from error


def append_jsonl(path: str | Path, record: Any) -> None:
    """Adds `record` as one line. A line that a kill cut off is closed first, so that it spoils no other."""
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
                if file.write(line) != len(line):  # a disk that fills up takes a part and says nothing
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise _explained(error, path, "a line was not added") from error


def read_jsonl(path: str | Path, say: Callable[[str], object] = lambda line: None) -> list[Any]:
    """The records of `path`, without lines that a kill cut off; an empty list where there is no file.

    `say` is called with a warning for each line that is left out.
    """
    records = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                say(f"warning: {path}: line {number} is cut off or damaged, and left out")
    return records


def _explained(error: OSError, path: Path, what: str) -> OSError:
    advice = _ADVICE.get(error.errno or 0, "see whether its directory can be written to")
    reason = error.strerror or str(error)
    return OSError(error.errno or errno.EIO, f"{reason} ({what}; {advice})", str(path))


def _plain(value: Any) -> Any:
    """What `json` cannot say itself: numpy's scalars and arrays (not imported here), paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")
