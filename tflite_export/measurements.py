"""A table of measured latencies in a CSV file, from which a killed run of measurements resumes."""

import contextlib
import csv
import dataclasses
import datetime
import glob
import hashlib
import io
import os
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

from tflite_export.benchmark_log import Measurement, MeasurementFailed
from tflite_export.runtime import read_model
from tfqnas.errors import UserError
from tfqnas.files import read_regular
from tfqnas.records import Count, NotNegative, conform

# What identifies a measurement: digest of the file, serial, via, accelerator, threads.
Key = tuple[str, str, str, str, int]


class DeviceLost(UserError):
    """The device no longer answers."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A `.tflite` file: its path, the first 16 hex digits of its SHA-256, and its size in bytes."""

    path: str
    digest: str
    size: int

    @classmethod
    def read(cls, path: str | pathlib.Path) -> Self:
        """The `Model` of a path; raises `UserError` if the file is not a `.tflite` file."""
        blob = read_model(path)
        return cls(str(path), hashlib.sha256(blob).hexdigest()[:16], len(blob))


def find_models(patterns: Iterable[str]) -> tuple[Model, ...]:
    """The `Model`s of file names or patterns with * and ?, in order. Files with the same content count once."""
    found: dict[str, Model] = {}
    for pattern in patterns:
        paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
        if not paths:
            raise UserError(f"{pattern}: no such file")
        for model in map(Model.read, paths):
            found.setdefault(model.digest, model)
    return tuple(found.values())


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: the file, the device, the figures of a `Measurement`, and how it ended.

    Args:
        sha256: the first 16 hex digits.
        file_kB: size of the file in units of 1,000 bytes.
        ram_MB: memory of the device, in MB of 2^20 bytes.
        via: "app", "binary" or "litert-benchmark".
        runs ... delegate: the fields of `Measurement`; None if the status is not "ok".
        status: "ok", or "failed" or "invalid" followed by the reason.
        when: time in UTC, ISO 8601.
    """

    model: str
    sha256: str
    file_kB: NotNegative
    device: str
    serial: str
    system: str
    ram_MB: Count | None
    via: str
    accelerator: str
    threads: Count
    runs: Count | None
    avg_us: NotNegative | None
    std_us: NotNegative | None
    min_us: NotNegative | None
    max_us: NotNegative | None
    p5_us: NotNegative | None
    median_us: NotNegative | None
    p95_us: NotNegative | None
    first_us: NotNegative | None
    init_us: NotNegative | None
    memory_MB: float | None
    init_memory_MB: float | None
    delegate: str | None
    status: str
    when: str

    @property
    def key(self) -> Key:
        """Identifies the measurement: rows with the same key are repetitions."""
        return self.sha256, self.serial, self.via, self.accelerator, self.threads


_COLUMNS = [field.name for field in dataclasses.fields(Row)]
_TEXTS = {"model", "sha256", "device", "serial", "system", "via", "accelerator", "delegate", "status", "when"}


class MeasurementTable:
    """A CSV file of `Row`s that grows by whole lines. Opening it drops a line that a killed process left incomplete.

    A repeated measurement appends a new row, and the last row with a key counts.

    Raises:
        UserError: an existing file is not such a table.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        self.path = pathlib.Path(path)
        self._rows: dict[Key, Row] = {}
        if self.path.is_dir() or self.path.is_fifo():
            raise UserError(f"{path}: expected a file, received a directory or a pipe; choose another `output`")
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write([_COLUMNS])
            return
        content = read_regular(self.path)
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and _line(_COLUMNS).startswith(content.decode(errors="replace")):
            whole = _line(_COLUMNS).encode()  # killed within the first line
        try:
            head, *lines = list(csv.reader(io.StringIO(whole.decode(errors="replace")))) or [[]]
        except csv.Error as error:
            raise UserError(f"{path}: not a latency table ({error}); choose another `output`") from None
        if head != _COLUMNS:
            raise UserError(f"{path}: its first line is not that of a latency table; choose another `output`")
        for number, line in enumerate(lines, 2):
            try:
                fields = {name: _value(name, text) for name, text in zip(_COLUMNS, line, strict=True)}
                row = conform(fields, Row, "")
            except ValueError as error:
                raise UserError(f"{path}, line {number}: not a row of this table ({error})") from None
            self._keep(row)
        if whole != content:
            with open(self.path, "r+b") as file:
                file.write(whole)
                file.truncate()

    @property
    def rows(self) -> list[Row]:
        """The last row of each key."""
        return list(self._rows.values())

    def holds(self, key: Key) -> bool:
        """Whether the row with this key has the status "ok"."""
        return key in self._rows and self._rows[key].status == "ok"

    def append(self, row: Row) -> None:
        """Adds a row. It is on the disk when this returns.

        Raises:
            UserError: the row cannot be written. The rows before it are kept.
        """
        self._write([[getattr(row, name) for name in _COLUMNS]])
        self._keep(row)

    def _keep(self, row: Row) -> None:
        self._rows.pop(row.key, None)
        self._rows[row.key] = row

    def _write(self, rows: Iterable[Sequence[object]]) -> None:
        data = "".join(map(_line, rows)).encode()
        try:
            with open(self.path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    if file.write(data) != len(data):  # a full disk takes a part without an error
                        raise OSError("no space left on the disk")
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(size)
                    raise
        except OSError as error:
            raise UserError(
                f"{self.path}: a row cannot be written ({error.strerror or error}); the rows before it are kept. Free "
                "space or make the file writable, and repeat the command"
            ) from None


def _line(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _value(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    try:
        return float(text) if text else None
    except ValueError:
        return text


class MeasuredDevice(Protocol):
    """A device that measures models, such as `android.Device` and `host_benchmark.Host`."""

    serial: str
    name: str
    system: str
    via: str

    @property
    def ram_MB(self) -> int | None: ...

    def measure(self, model: Model, accelerator: str, threads: int) -> Measurement: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """A measurement to make: a device, a `Model`, an accelerator, and a number of CPU threads."""

    device: MeasuredDevice
    model: Model
    accelerator: str
    threads: int

    @property
    def key(self) -> Key:
        return self.model.digest, self.device.serial, self.device.via, self.accelerator, self.threads


def jobs(
    device: MeasuredDevice, models: Iterable[Model], accelerators: Iterable[str], threads: Iterable[int]
) -> list[Job]:
    """The `Job`s on a device, for each model, accelerator and number of threads."""
    every = [Job(device, m, a, t) for m in models for a in accelerators for t in threads]
    return list({job.key: job for job in every}.values())


def measure_all(
    todo: Iterable[Job],
    table: MeasurementTable,
    pause: float = 0.0,
    sleep: Callable[[float], object] = time.sleep,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Iterator[Row]:
    """Makes the measurements of one device, adds a row for each to the table, and yields the rows.

    The row of a failed measurement says why. If the device is lost, the remaining measurements are left out.

    Args:
        todo: `Job`s; leave out those that the table `holds`.
        table: `MeasurementTable`.
        pause: seconds between two measurements, to let the device cool.
        sleep, now: replaced in tests.
    """
    for number, job in enumerate(todo):
        if number and pause:
            sleep(pause)
        figures, lost = dict.fromkeys(field.name for field in dataclasses.fields(Measurement)), False
        try:
            figures |= dataclasses.asdict(job.device.measure(job.model, job.accelerator, job.threads))
            status = "ok"
        except MeasurementFailed as error:
            status = f"{error.kind}: {' '.join(str(error).split())}"
        except DeviceLost as error:
            status, lost = f"failed: device lost: {error}", True
        row = Row(
            model=job.model.path,
            sha256=job.model.digest,
            file_kB=job.model.size / 1000,
            device=job.device.name,
            serial=job.device.serial,
            system=job.device.system,
            ram_MB=job.device.ram_MB,
            via=job.device.via,
            accelerator=job.accelerator,
            threads=job.threads,
            **figures,
            status=status,
            when=now().isoformat(timespec="seconds"),
        )
        table.append(row)
        yield row
        if lost:
            return
