"""One writer at a time for a directory, or for the files of one job, and the temporary names of files being written.

The lock is a POSIX record lock on a small file, `.lock` in a directory and `.NAME.lock` beside a file NAME. The kernel
takes it back when its process ends, also by SIGKILL, and it works over NFS. Children do not inherit it. They would
inherit a lock by flock, which the package filelock uses, and a scoring process that outlives its command would hold the
directory. The price is that a record lock belongs to the whole process, and is lost when the process closes any
descriptor of the file. Therefore `writer` opens no file of which this process has the lock.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from tfqnas.errors import SettingError, UserError, explained

_LOCK = ".lock"
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}\.tfqnas(?P<suffix>\.[^.]+)?")
# What the kernel answers if another process has the lock. Any other answer means that the file system has no locks.
_TAKEN = (errno.EACCES, errno.EAGAIN)


@dataclasses.dataclass
class _Held:
    """A lock of this process.

    Attributes:
        place: the file with the lock. descriptor: its open descriptor. process: number of the process that has it.
        targets: the files and directories that it is for, absolute and without links.
        safe: whether the file system has locks. made: directories that were made for it, outermost first.
        uses: how often `writer` has been entered. swept: directories without leftovers.
    """

    place: Path
    descriptor: int
    process: int
    targets: frozenset[str]
    safe: bool
    made: list[Path]
    uses: int = 0
    swept: set[str] = dataclasses.field(default_factory=set)

    def covers(self, path: str) -> bool:
        return any(path == target or path.startswith(os.path.join(target, "")) for target in self.targets)

    def release(self) -> None:
        if self.process != os.getpid():  # a fork of the process that has it
            return
        del _held[_identity(os.fstat(self.descriptor))]
        with contextlib.suppress(OSError):
            self.place.unlink()  # while nobody else can have it
        os.close(self.descriptor)
        with contextlib.suppress(OSError):  # up to a directory with contents
            for directory in reversed(self.made):
                directory.rmdir()


# The locks of this process by the device and number of their files.
_held: dict[tuple[int, int], _Held] = {}


@contextlib.contextmanager
def writer(
    path: str | os.PathLike[str], setting: str, files: Collection[str | os.PathLike[str]] = ()
) -> Iterator[None]:
    """While this is entered, no other process enters it for the same path.

    A process may enter it several times, one within the other. Missing directories are made, and removed if they are
    empty in the end. In a file system without locks it says so and goes on.

    Args:
        path: a directory; with `files` the one of them that names the job.
        setting: name of the setting with the path, for the message.
        files: the files that the job writes, if it does not have a directory of its own.

    Raises:
        UserError: another process has it. The message says which.
        OSError: the directory cannot be made or written to. The message says what to do.
    """
    if not os.fspath(path):
        raise SettingError(setting, "a path", "")
    path = Path(path)
    if files and path.is_dir():
        raise UserError(f"`{setting}={path}`: expected a file to write, received a directory")
    place = path.with_name(f".{path.name}{_LOCK}") if files else path / _LOCK
    if (held := _own(place)) is None:
        targets = frozenset(map(_absolute, files) if files else [os.path.realpath(path)])
        try:
            held = _acquired(place, path, setting, targets)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"`{setting}={path}`: expected a directory, {error.filename} is a file") from None
        except OSError as error:
            raise explained(error, path, "nothing was written") from error
    held.uses += 1
    try:
        yield
    finally:
        held.uses -= 1
        if not held.uses:
            held.release()


def _own(place: Path) -> _Held | None:
    """The lock that this process has, found without opening its file."""
    with contextlib.suppress(OSError):
        held = _held.get(_identity(place.stat()))
        return held if held and held.process == os.getpid() else None
    return None


def _acquired(place: Path, path: Path, setting: str, targets: frozenset[str]) -> _Held:
    made: list[Path] = []
    if place.exists() and not place.is_file():
        raise UserError(f"{place}: expected a file with a lock, received a directory or a pipe: remove it")
    while True:
        made += _make(place.parent)
        with contextlib.suppress(FileNotFoundError):  # removed by a process that has just ended
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
            safe = True
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _TAKEN:
                    who = _who(descriptor)
                    os.close(descriptor)
                    raise UserError(
                        f"{path} is being written by {who}: wait until it ends, or give another `{setting}`"
                    ) from None
                safe = False
                print(
                    f"warning: {path}: its file system has no locks ({error.strerror}), so nothing stops a second "
                    "command from writing there too",
                    file=sys.stderr,
                )
            if os.path.samestat(os.fstat(descriptor), os.stat(place)):
                break
            os.close(descriptor)
    held = _Held(place, descriptor, os.getpid(), targets, safe, made)
    _held[_identity(os.fstat(descriptor))] = held
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"program": _program(), "process": held.process, "host": socket.gethostname(), "since": since}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(record).encode(), 0)
    except OSError:
        held.release()
        raise
    return held


def _program() -> str:
    """How this process is named to others: the running script, or a command of tfqnas."""
    name = Path(sys.argv[0]).name
    return " ".join([name, *sys.argv[1:2]]) if name == "tfqnas" else name or "python"


def _make(directory: Path) -> list[Path]:
    """Makes a directory and those above it; returns the new ones, outermost first."""
    if directory.is_dir():
        return []
    above = _make(directory.parent)
    try:
        directory.mkdir()
    except FileExistsError:
        if not directory.is_dir():
            raise
        return above  # another process was faster
    return [*above, directory]


def _who(descriptor: int) -> str:
    """The process that has a lock, in words."""
    for _ in range(20):  # it writes its name after it has the lock
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(os.pread(descriptor, 10_000, 0))
            since = datetime.datetime.fromisoformat(record["since"]).astimezone()
            today = since.date() == datetime.date.today()
            when = since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
            return f"{record['program']} (process {record['process']} on {record['host']}, since {when})"
        time.sleep(0.05)
    return "another process"


def _absolute(path: str | os.PathLike[str]) -> str:
    """The path of a file without links above it. The file itself may be one, which its writer replaces."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


# Temporary names


def temporary_name(name: str) -> str:
    """A new name for a file that becomes `name` when it is complete. It has the same suffix, and begins with a dot."""
    stem, suffix = os.path.splitext(name)
    return f".{stem}.{secrets.token_hex(4)}.tfqnas{suffix}"


def target_of(name: str) -> str | None:
    """The name that a file with a temporary name was meant for; None for any other name."""
    found = _TEMPORARY.fullmatch(name)
    return found and f"{found['stem']}{found['suffix'] or ''}"


def has_contents(directory: str | Path) -> bool:
    """Whether a directory holds anything but a lock and what killed processes have left."""
    return any(name != _LOCK and target_of(name) is None for name in os.listdir(directory))


def sweep(path: str | Path) -> None:
    """Removes what killed processes have left in the directory of a file, as far as this process has its lock.

    Each writer calls this before it writes.
    """
    path = _absolute(path)
    directory = os.path.dirname(path)
    for held in [held for held in _held.values() if held.safe and held.process == os.getpid()]:
        if directory in held.swept or not held.covers(path):
            continue
        held.swept.add(directory)
        for name in os.listdir(directory):
            target = target_of(name)
            if target is not None and held.covers(os.path.join(directory, target)):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))
