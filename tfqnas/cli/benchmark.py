"""Measures the latency of .tflite files on Android phones, or on this computer, and writes a table.

    tfqnas benchmark --models='out/*.tflite' --accelerators=cpu,gpu --threads=1,4 \\
        --apk=android_aarch64_benchmark_model.apk --output=measurements.csv
    tfqnas benchmark --models='out/*.tflite' --binary=android_aarch64_benchmark_model
    tfqnas benchmark --models='out/*.tflite' --host

The same command continues an unfinished table and repeats failed measurements. docs/android.md explains how to set up
the phone. The exit code is 1 if a measurement failed, or is invalid because another accelerator did the work.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

from tflite_export import android, host_benchmark, measurements
from tfqnas import report
from tfqnas.cli import command
from tfqnas.errors import SettingError, UserError
from tfqnas.progress import Progress

FLAGS = command.Flags()
MODELS = FLAGS.list("models", None, ".tflite files; * and ? match names", required=True)
ACCELERATORS = FLAGS.list("accelerators", ["cpu"], f"some of {', '.join(android.ACCELERATORS)}")
THREADS = FLAGS.list("threads", ["1"], "numbers of CPU threads")
OUTPUT = FLAGS.string("output", "latency.csv", "the table to write; existing rows are kept and not measured again")
SERIALS = FLAGS.list("serials", [], "devices, as adb devices lists them; needed only if there are several")
VIA = FLAGS.enum("via", None, ["app", "binary"], "measuring program; by default the binary if `binary` is given")
APK = FLAGS.string("apk", None, "the benchmark app's file, to install it first")
BINARY = FLAGS.string("binary", None, "the command-line benchmark, built for the device")
HOST = FLAGS.bool("host", False, "measure on this computer instead, with litert-benchmark")
RUNS = FLAGS.integer("runs", 50, "smallest number of timed inferences", lower_bound=1)
TIMEOUT = FLAGS.float("timeout", 300, "seconds for one measurement", lower_bound=0.01)
PAUSE = FLAGS.float("pause", 0, "seconds between two measurements, to let the device cool", lower_bound=0)
POLL = FLAGS.float("poll", 1, "seconds between two checks of the app's log", lower_bound=0.001)
ADB = FLAGS.string("adb", "adb", "the program adb")
ALLOW = FLAGS.bool("allow_failures", False, "exit code 0 even if measurements failed or are invalid")

COLUMNS = (
    ("model", "model"),
    ("device", "device"),
    ("accelerator", "on"),
    ("threads", "threads"),
    ("runs", "runs"),
    ("avg_us", "avg us", ",.1f"),
    ("std_us", "std", ",.1f"),
    ("p95_us", "p95", ",.0f"),
    ("init_us", "init us", ",.0f"),
    ("memory_MB", "MB", ".1f"),
    ("status", "status"),
)


def main() -> None:
    check_flags()
    models, threads = measurements.find_models(MODELS.value), [int(text) for text in THREADS.value]
    every = {device: measurements.jobs(device, models, ACCELERATORS.value, threads) for device in find_devices()}
    command.writes(OUTPUT.value, "output", files=[OUTPUT.value])
    table = measurements.MeasurementTable(OUTPUT.value)
    command.keeps(OUTPUT.value)
    todo = {device: [job for job in jobs if not table.holds(job.key)] for device, jobs in every.items()}
    made = measure(todo, table)
    wanted = {job.key for jobs in every.values() for job in jobs}
    rows = [row for row in table.rows if row.key in wanted]
    print(f"\n{report.table([dataclasses.asdict(row) for row in rows], COLUMNS)}\n\nwritten: {OUTPUT.value}")
    missing = sum(map(len, todo.values())) - made
    bad = [row for row in rows if row.status != "ok"]
    if (bad or missing) and not ALLOW.value:
        lost = f", {missing} not made" if missing else ""
        raise UserError(
            f"{len(bad)} of {len(wanted)} measurements failed or are invalid{lost}: {bad[0].model}, "
            f"{bad[0].accelerator}: {bad[0].status}; the same command repeats these only"
        )


def check_flags() -> None:
    for name in ACCELERATORS.value:
        known = host_benchmark.ACCELERATORS if HOST.value else android.ACCELERATORS
        if name not in known:
            raise SettingError("accelerators", f"some of {', '.join(known)}", name)
    for flag in (ACCELERATORS, THREADS):
        if not flag.value:
            raise SettingError(flag.name, "at least one", "")
    for text in THREADS.value:
        if not text.isdecimal() or int(text) < 1:
            raise SettingError("threads", "whole numbers from 1 on, separated by commas", text)
    if HOST.value:
        of_phones = (SERIALS, VIA, APK, BINARY, POLL, ADB)
        command.refuse([flag.name for flag in of_phones], "with `host`", "phones")
        return
    if BINARY.value and (VIA.value == "app" or APK.value):
        raise UserError("`binary` is another way to measure than the app (`via=app`, `apk`): expected one of them")
    if VIA.value == "binary" and not BINARY.value:
        raise SettingError("binary", "the file with `via=binary`", "")
    if BINARY.value:
        command.refuse([POLL.name], "with `binary`", "the app")


def find_devices() -> list[android.Device | host_benchmark.Host]:
    if HOST.value:
        return [host_benchmark.Host(RUNS.value, TIMEOUT.value)]
    return [
        android.Device(
            android.Adb(serial, ADB.value),
            binary=BINARY.value,
            apk=APK.value,
            runs=RUNS.value,
            timeout=TIMEOUT.value,
            poll=POLL.value,
        )
        for serial in android.connected(android.Adb(program=ADB.value), SERIALS.value)
    ]


def measure(
    todo: Mapping[android.Device | host_benchmark.Host, Sequence[measurements.Job]],
    table: measurements.MeasurementTable,
) -> int:
    """Measures the jobs of each device, and returns the number of new rows."""
    made = 0
    progress = Progress([(device.serial, max(1, len(jobs))) for device, jobs in todo.items()])
    with contextlib.ExitStack() as stack:
        for device, jobs in todo.items():  # all first, so that a missing part is reported before the work begins
            if jobs:
                stack.enter_context(device)
        for device, jobs in todo.items():
            if not jobs:
                progress.skip(device.serial)
                continue
            with progress.part(device.serial) as part:
                for done, row in enumerate(measurements.measure_all(jobs, table, PAUSE.value), 1):
                    result = row.status if row.avg_us is None else f"{row.avg_us:,.1f} us"
                    progress.log(f"{row.model}, {row.accelerator}, threads {row.threads}: {result}")
                    part.update(done / len(jobs))
                    made += 1
    return made
