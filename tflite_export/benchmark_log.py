"""Reads the log of TensorFlow Lite's benchmark tool. The app writes it to logcat; the binary prints it."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tfqnas.errors import UserError

# The delegate that executes the model on each accelerator.
DELEGATES = {"cpu": "XNNPACK", "cpu_no_xnnpack": None, "gpu": "GPU"}

_NUMBER = r"[-+]?(?:nan|inf|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): ({_NUMBER})"
)
_MEMORY = re.compile(
    rf"emory footprint(?: delta from the start of the tool)? \(MB\): init=({_NUMBER}) overall=({_NUMBER})"
)
_APPLIED = re.compile(
    r"[Aa]pplied (\w+) delegate, and the model graph will be (completely|partially) executed"
    r"(?:.* w/ (\d+) delegate kernels)?"
)
_REFUSED = re.compile(r"Though (\w+) delegate is .*applied, the model graph will not be executed by the delegate")
# The tool ends after these errors. It survives others, such as a list of operators that a delegate does not support.
_FATAL = re.compile(
    r"Disallowed CPU fallback detected|Failed to apply \w+ delegate\.|Failed to allocate tensors|Failed to load model"
    r"|Failed to initialize (?:the interpreter|model loader)"
)
_LOGCAT = re.compile(r"\d\d-\d\d [\d:.]+ +(\d+) +\d+ ([VDIWEF]) (.*?) *: ?(.*)")
_PRINTED = re.compile(r"(INFO|WARN|WARNING|ERROR|FATAL): (.*)")


class MeasurementFailed(UserError):
    """The measurement gave no figures. The message says why."""

    kind = "failed"


class MeasurementInvalid(MeasurementFailed):
    """The measurement gave figures, but for another accelerator than the requested one."""

    kind = "invalid"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The figures of one run of the benchmark tool. A figure is None if the tool does not report it.

    Args:
        runs: number of timed inferences.
        avg_us, std_us, min_us, max_us, p5_us, median_us, p95_us: statistics of their times, in microseconds.
        first_us: time of the first inference, before the warm-up.
        init_us: time to load the model and apply the delegate.
        memory_MB, init_memory_MB: growth of the process in total and up to the first inference, in MB of 2^20 bytes.
        delegate: the delegate that executes the model, with the number of parts if it executes only some of the model;
            "" if the log names none.
    """

    runs: int
    avg_us: float
    std_us: float | None
    min_us: float | None
    max_us: float | None
    p5_us: float | None
    median_us: float | None
    p95_us: float | None
    first_us: float | None
    init_us: float
    memory_MB: float | None
    init_memory_MB: float | None
    delegate: str


class _Line(NamedTuple):
    pid: int
    severity: str
    tag: str
    text: str


def parse(log: str, accelerator: str, exit_code: int = 0) -> Measurement:
    """The `Measurement` in the log of one run.

    Args:
        log: text from logcat, or as the binary printed it.
        accelerator: the requested accelerator, a key of `DELEGATES`.
        exit_code: exit code of the binary.

    Raises:
        MeasurementFailed: the log has no figures.
        MeasurementInvalid: another accelerator did the work, or part of it.
    """
    lines = _lines(log)
    texts = [line.text for line in lines if line.tag == "tflite"]
    ends = [(number, found) for number, text in enumerate(texts) if (found := _TIMINGS.search(text))]
    if not ends or exit_code or any("failed to invoke" in text for text in texts):
        raise MeasurementFailed(_reason(lines, accelerator, exit_code))
    # The tool prints statistics of the warm-up, then of the runs. Any after the timings belong to a profile.
    last, timings = ends[-1]
    statistics = [text for text in texts[:last] if re.match(r"count=\d", text)]
    if not statistics:
        raise MeasurementFailed("the log has timings, but no line of statistics (count=...) before them")
    delegate = _delegate(texts, accelerator)
    init, first, average = map(float, timings.groups())
    values = {key: float(value) for key, value in re.findall(rf"(\w+)=({_NUMBER})", statistics[-1])}
    if not values["count"] or not math.isfinite(average):
        raise MeasurementFailed(f"no inference was timed: {statistics[-1]}")
    only = values.get("curr")  # the only figure if there was one run, or if all times are equal
    memory = _MEMORY.search("\n".join(texts))
    return Measurement(
        runs=int(values["count"]),
        avg_us=values.get("avg", average),
        std_us=values.get("std", None if values["count"] == 1 else 0.0),
        min_us=values.get("min", only),
        max_us=values.get("max", only),
        p5_us=values.get("p5"),
        median_us=values.get("median"),
        p95_us=values.get("p95"),
        first_us=first,
        init_us=init,
        memory_MB=float(memory[2]) if memory else None,
        init_memory_MB=float(memory[1]) if memory else None,
        delegate=delegate,
    )


def has_timings(log: str) -> bool:
    """Whether the log has the line with the inference timings."""
    return _TIMINGS.search(log) is not None


def is_whole(log: str) -> bool:
    """Whether nothing useful can follow: the last figures are in the log, or an error after which the tool ends."""
    return bool(has_timings(log) and _MEMORY.search(log)) or _FATAL.search(log) is not None


def finished(log: str, package: str) -> bool:
    """Whether the app's activity has ended. It also ends after a failure, without logging a line."""
    return any(
        line.tag in ("wm_finish_activity", "am_finish_activity")  # since Android 11, and before
        and f"{package}/" in line.text
        and "app-request" in line.text
        for line in _lines(log)
    )


def crash(log: str, package: str) -> str | None:
    """The reason for the app's crash as logcat words it, or None if the app did not crash."""
    lines = _lines(log)
    ours = {line.pid for line in lines if line.tag.startswith("tflite")}

    def after(number: int) -> Iterator[str]:
        return (line.text for line in lines[number + 1 :] if line.tag == lines[number].tag)

    for number, line in enumerate(lines):
        if line.tag == "AndroidRuntime" and line.text.startswith(f"Process: {package},"):
            return next(after(number), "FATAL EXCEPTION")
        # A thread's name is the last 15 characters of the package's name.
        mine = line.pid in ours or f"({package[-15:]})" in line.text
        if line.tag == "libc" and mine and (found := re.search(r"Fatal (signal \d+ \(\w+\))", line.text)):
            return found[1]
        if line.tag == "DEBUG" and f">>> {package} <<<" in line.text:
            return next((text for text in after(number) if text.startswith("signal ")), "native crash")
    return None


def _lines(log: str) -> list[_Line]:
    return [_line(text.rstrip()) for text in log.splitlines()]


def _line(text: str) -> _Line:
    if found := _LOGCAT.fullmatch(text):
        return _Line(int(found[1]), found[2], found[3], found[4])
    if found := _PRINTED.fullmatch(text):
        return _Line(0, found[1][0], "tflite", found[2])
    return _Line(0, "I", "tflite", text)  # older binaries print no severity, nor do continued lines


def _delegate(texts: Sequence[str], accelerator: str) -> str:
    wanted = DELEGATES[accelerator]
    refused = [found[1] for text in texts if (found := _REFUSED.search(text))]
    applied = {found[1]: found for text in texts if (found := _APPLIED.search(text))}
    if wanted in refused:
        instead = "CPU" if wanted == "GPU" else f"kernels without {wanted}"
        raise MeasurementInvalid(f"silent fall-back to {instead}: the {wanted} delegate executes no part of the model")
    if wanted == "GPU" and wanted not in applied:
        raise MeasurementInvalid(
            "silent fall-back to CPU: the log does not say that the GPU delegate executes the model"
        )
    if wanted is None or wanted not in applied:
        return ""
    _, how, parts = applied[wanted].groups()
    if how == "completely":
        return wanted
    if wanted == "GPU":
        raise MeasurementInvalid(
            f"partial fall-back to CPU: the GPU delegate executes {parts or 'some'} parts of the model, not all"
        )
    return f"{wanted}, {parts} parts"


def _reason(lines: Sequence[_Line], accelerator: str, exit_code: int) -> str:
    """The reason why the tool ended without figures, or with failed inferences."""
    lines = [line for line in lines if line.tag == "tflite"]
    errors = [
        line.text
        for line in lines
        # The app's summary of a good run is logged as an error.
        if line.severity in "EF" and not line.text.startswith(("Average inference timings", "Benchmarking failed"))
    ]
    if exit_code and not errors:
        last = next((line.text for line in reversed(lines) if line.text), "it prints nothing")
        return f"the tool ended with exit code {exit_code}: {last}"
    if not any("Disallowed CPU fallback" in text for text in errors):
        return errors[-1] if errors else "the log has no line 'Inference timings in us: ...'"
    unsupported = [line.text for line in lines if re.match(r"[A-Z][A-Z0-9_]+(?: \w+)?: \S", line.text)]
    more = f": {'; '.join(unsupported[:3])}" if unsupported else ""
    return f"the {DELEGATES[accelerator]} delegate cannot execute the whole model{more}"
