"""Measures a latency table, which predicts the latency of a space's subnets on a device from that of their pieces.

    tfqnas latency-table --space=tiny --classes=10 --channels=1 --device=host --output=latency_tiny.json
    tfqnas latency-table --run_dir=runs/digits --device=android --apk=app.apk --output=latency_phone.json
    tfqnas latency-table --run_dir=runs/digits --device=vela --target=ethos-u55-128 --output=latency_npu.json

Predictions are checked on whole networks. Measurements are kept beside the table in FILE.jsonl, so that the same
command continues where it was stopped. docs/android.md explains how to set up the phone. The table is valid for this
device, and for networks with the same bits, classes and channels.
"""

import dataclasses
import datetime
import pathlib
from collections.abc import Sequence

from tflite_export import android, meters, npu
from tfqnas import report, spaces
from tfqnas.arch import Arch
from tfqnas.cli import command
from tfqnas.errors import SettingError, UserError
from tfqnas.files import write_atomically
from tfqnas.progress import Progress
from tfqnas.runs import latency_pieces
from tfqnas.search.latency import LatencyTable, pieces_of
from tfqnas.spaces import SearchSpace

FLAGS = command.Flags()
SPACE = FLAGS.string("space", None, "search space: a name or a JSON file")
CLASSES = FLAGS.integer("classes", None, "number of classes of the networks, with `space`", lower_bound=1)
CHANNELS = FLAGS.integer("channels", None, "number of channels of the images, with `space`", lower_bound=1)
RUN_DIR = FLAGS.string("run_dir", None, "a run directory with a space and data, instead of `space`")
BITS = FLAGS.integer(
    "bits",
    None,
    "bit width of the networks, by default 4 or the run's highest below 8; 2 to 7 run the same operations",
    lower_bound=2,
    upper_bound=8,
)
DEVICE = FLAGS.enum("device", "host", ["host", "android", "vela"], "this computer, a phone, or Arm's NPU compiler")
OUTPUT = FLAGS.string("output", None, "the table to write, JSON", required=True)
FIT = FLAGS.integer("fit_models", 8, "whole networks to fit the correction", lower_bound=2)
VALIDATION = FLAGS.integer("validation_models", 8, "other whole networks to measure the error", lower_bound=2)
ROUNDS = FLAGS.integer(
    "rounds",
    None,
    f"number of measurements of each file, whose median counts; by default {meters.HostMeter.rounds} on the host, "
    "else 1",
    lower_bound=1,
)
SEED = FLAGS.integer("seed", 0, "seed of the order of measurements and of the random networks", lower_bound=0)
THREADS = FLAGS.integer("threads", 1, "host, android: CPU threads", lower_bound=1)
SECONDS = FLAGS.float("seconds", 0.05, "host: seconds that each file runs in a round", lower_bound=0.0001)
ACCELERATOR = FLAGS.enum("accelerator", "cpu", list(android.ACCELERATORS), "android: accelerator that runs the files")
SERIAL = FLAGS.string("serial", None, "android: the device, as adb devices lists it; needed only if there are several")
APK = FLAGS.string("apk", None, "android: the benchmark app's file, to install it first")
BINARY = FLAGS.string("binary", None, "android: the command-line benchmark, instead of the app")
RUNS = FLAGS.integer("runs", 50, "android: smallest number of timed inferences", lower_bound=1)
TIMEOUT = FLAGS.float("timeout", 300, "android, vela: seconds for one measurement", lower_bound=0.01)
PAUSE = FLAGS.float("pause", 0, "android: seconds between two measurements, to let the device cool", lower_bound=0)
ADB = FLAGS.string("adb", "adb", "android: the program adb")
TARGET = FLAGS.enum("target", "ethos-u55-128", list(npu.TARGETS), "vela: the NPU")
UNIT = FLAGS.enum("unit", "cycles", ["cycles", "ms"], "vela: cycles, or milliseconds at the NPU's clock")

_FORMS = {"ms": ".4g", "cycles": ",.0f"}
_FLAGS_OF = {
    ("host",): ("seconds",),
    ("android",): ("accelerator", "serial", "apk", "binary", "runs", "pause", "adb"),
    ("vela",): ("target", "unit"),
    ("host", "android"): ("threads",),
    ("android", "vela"): ("timeout",),
}
_LIMITS = {"ms": "max_latency_ms", "cycles": "max_npu_cycles"}
# Seconds to make a network on an idle computer, and additional seconds for each of its blocks.
_NETWORK_SECONDS, _BLOCK_SECONDS = 1.0, 0.5

Meter = meters.HostMeter | meters.AndroidMeter | meters.VelaMeter


def main() -> None:
    check_flags()
    meter = make_meter()
    space, bits, classes, channels = networks()
    targets = latency_pieces.Targets.chosen(space, FIT.value, VALIDATION.value, SEED.value)
    about = {
        "device": meter.device,
        "unit": meter.unit,
        "threads": meter.threads,
        "bits": bits,
        "classes": classes,
        "channels": channels,
    }
    kept = pathlib.Path(OUTPUT.value).with_suffix(".jsonl")
    command.writes(kept, "output", files=[kept, OUTPUT.value])
    log = latency_pieces.Log(kept, about | {"space": dataclasses.asdict(space)})
    command.keeps(kept)
    schedule = targets.schedule(ROUNDS.value or meter.rounds, SEED.value)
    files = latency_pieces.Files(targets, bits, classes, channels)
    measure([job for job in schedule if job not in log], targets, files, meter, log)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    table = targets.table(log.medians(schedule), **about, when=now)
    write_atomically(OUTPUT.value, table.to_json())
    print(summary(table))


def check_flags() -> None:
    if (SPACE.value is None) == (RUN_DIR.value is None):
        raise UserError("expected one of `space` and `run_dir`")
    for flag in (CLASSES, CHANNELS):
        if SPACE.value and flag.value is None:
            raise SettingError(flag.name, "a number with `space`", "")
    if RUN_DIR.value:
        command.refuse([CLASSES.name, CHANNELS.name], "with `run_dir`, which has them", "`space`")
    if pathlib.Path(OUTPUT.value).suffix == ".jsonl":
        raise SettingError("output", "another suffix than .jsonl, which the measured numbers take", OUTPUT.value)
    for devices, names in _FLAGS_OF.items():
        if DEVICE.value not in devices:
            command.refuse(names, f"with `device={DEVICE.value}`", f"`device={' or '.join(devices)}`")


def make_meter() -> Meter:
    if DEVICE.value == "host":
        return meters.HostMeter(THREADS.value, SECONDS.value)
    if DEVICE.value == "vela":
        return meters.VelaMeter(TARGET.value, UNIT.value, TIMEOUT.value)
    (serial,) = android.connected(android.Adb(program=ADB.value), [SERIAL.value] if SERIAL.value else ())
    phone = android.Device(
        android.Adb(serial, ADB.value), binary=BINARY.value, apk=APK.value, runs=RUNS.value, timeout=TIMEOUT.value
    )
    return meters.AndroidMeter(phone, ACCELERATOR.value, THREADS.value, PAUSE.value)


def networks() -> tuple[SearchSpace, int, int, int]:
    """`(space, bits, classes, channels)`."""
    if SPACE.value:
        try:
            return spaces.get(SPACE.value).without_bits(), BITS.value or 4, CLASSES.value, CHANNELS.value
        except ValueError as error:
            raise UserError(f"`space`: {error}") from None
    command.import_tensorflow()
    from tfqnas.runs.run import Run

    run = Run.existing(RUN_DIR.value)
    bits = BITS.value or (4 if run.space.mixed else next((b for b in run.config.bits if b < 8), 8))
    return run.space.without_bits(), bits, run.dataset.num_classes, run.dataset.channels


def measure(
    todo: Sequence[tuple[str, int]],
    targets: latency_pieces.Targets,
    files: latency_pieces.Files,
    meter: Meter,
    log: latency_pieces.Log,
) -> None:
    """Announces the work, makes the networks, and measures each `(name, round)` of `todo`."""
    needed = files.networks(dict.fromkeys(name for name, _ in todo))
    progress = announced(todo, needed, targets, meter)
    if not todo:
        progress.skip("networks")
        progress.skip("measurements")
        return
    command.import_tensorflow()
    with meter:
        with progress.part("networks") as part:
            for done, arch in enumerate(needed, 1):
                files.make(arch)
                part.update(done / len(needed), arch.key)
        with progress.part("measurements") as part:
            for done, (name, number) in enumerate(todo, 1):
                log.add(name, number, value := measured(meter, files, name))
                part.update(done / len(todo), f"{name}: {value:.4g} {meter.unit}")


def announced(
    todo: Sequence[tuple[str, int]], needed: Sequence[Arch], targets: latency_pieces.Targets, meter: Meter
) -> Progress:
    """Prints the number of measurements and their duration, and returns the `Progress`."""
    blocks = sum(len(targets.space.blocks(arch)) for arch in needed)
    making, measuring = _NETWORK_SECONDS * len(needed) + _BLOCK_SECONDS * blocks, meter.takes * len(todo)
    rounds = len({number for _, number in todo})
    print(
        f"{len(pieces_of(targets.space))} pieces and {len(targets.fit) + len(targets.validation)} whole networks on "
        f"{meter.device}: {len(todo)} measurements in {rounds} round{'s' * (rounds != 1)}, {_time(measuring)} or more; "
        f"first {len(needed)} networks are made, {_time(making)} or more",
        flush=True,
    )
    return Progress([("networks", max(making, 1)), ("measurements", max(measuring, 1))])


def measured(meter: Meter, files: latency_pieces.Files, name: str) -> float:
    try:
        return meter.measure(files.blob(name))
    except UserError as error:
        raise UserError(f"{name}: {error}; measurements are kept, and the same command continues from here") from None


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def summary(table: LatencyTable) -> str:
    """The text on a table's error and its use."""
    v = table.validation
    rows = [
        {"arch": arch, "predicted": predicted, "measured": measured, "error": error}
        for arch, predicted, measured, error in zip(v.archs, v.predicted, v.measured, v.errors, strict=True)
    ]
    columns = (
        ("arch", "network"),
        *((side, side, _FORMS[table.unit]) for side in ("predicted", "measured")),
        ("error", "error", "+.1%"),
    )
    middle = float(f"{sorted(v.measured)[len(rows) // 2]:.2g}")
    return (
        f"\n{report.table(rows, columns)}\n\n"
        f"{len(rows)} networks that took no part in the fit, in {table.unit}: mean absolute error {v.error:.1%}, "
        f"Kendall tau {v.tau:.2f}\n"
        f"a network takes {table.factor:.3f} times its pieces {table.offset:+.4g} {table.unit}\n"
        f"holds for {table.holds_for}\n"
        f"written: {OUTPUT.value}; to search with it: --latency_table={OUTPUT.value} "
        f"--{_LIMITS[table.unit]}={middle:g}"
    )
