"""Latency on phones: parsing of real log formats, `adb` and the app behind a fake, the table, the tool."""

import contextlib
import csv
import dataclasses
import datetime
import errno
import io
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.tflite_export import fake_adb
from tflite_export import android, benchmark_log, host_benchmark, measurements
from tflite_export.benchmark_log import MeasurementFailed, MeasurementInvalid
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tflite_export.writer import write
from tfqnas.cli import benchmark
from tfqnas.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARGS = "--graph=/data/local/tmp/m.tflite --num_threads=4"
# What `adb devices` says of one phone, and what is to be answered.
STATES = [
    ("", "no device: connect a phone by USB, switch on USB debugging"),
    ("R58N\tunauthorized", "R58N: unauthorized: unlock it and answer its question"),
    ("R58N\toffline", "R58N: offline: unplug it"),
    ("R58N\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]", "install udev rules"),
    ("R58N\trecovery", "R58N: recovery"),
    ("R58N\tdevice\nemulator-5554\tdevice", "2 devices are connected: choose with `serials`, of R58N, emulator-5554"),
]


def logs(name, delegate="XNNPACK"):
    """The same run as the app and as the binary write it."""
    lines = fake_adb.log_lines(name, ARGS, delegate)
    return fake_adb.logcat(lines), fake_adb.binary_output(lines)


# -- the log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ok",
            {
                "runs": 69,
                "avg_us": 14575.2,
                "std_us": 109,
                "min_us": 14290,
                "max_us": 15012,
                "p5_us": 14310,
                "median_us": 14560,
                "p95_us": 14820,
                "first_us": 18535,
                "init_us": 5685,
                "memory_MB": 46.1,
                "init_memory_MB": 4.2,
                "delegate": "XNNPACK",
            },
        ),
        ("scientific", {"runs": 50, "avg_us": 2950340, "std_us": 109798, "p95_us": 3100000}),
        ("old", {"runs": 69, "avg_us": 14575.2, "max_us": 15012, "p5_us": None, "median_us": None, "p95_us": None}),
        ("single", {"runs": 1, "avg_us": 14644, "std_us": None, "min_us": 14644, "max_us": 14644, "p95_us": 14644}),
        ("same", {"runs": 16000, "avg_us": 62, "std_us": 0, "min_us": 62, "max_us": 62, "median_us": 62}),
        ("no memory", {"runs": 69, "memory_MB": None, "init_memory_MB": None}),
    ],
)
def test_figures_are_read_from_both_forms_of_the_log(name, expected):
    for log in logs(name):
        found = dataclasses.asdict(benchmark_log.parse(log, "cpu"))
        assert {key: found[key] for key in expected} == expected


def test_what_older_and_newer_tools_write_is_read_too():
    _, log = logs("ok")
    older = log.replace("INFO: ", "").replace("Memory footprint delta from the start of the tool", "Peak memory")
    older = older.replace("Peak memory", "Peak memory footprint")
    assert benchmark_log.parse(older, "cpu") == benchmark_log.parse(log, "cpu")
    profile = "Timings (microseconds): count=69 first=1 curr=1 min=1 max=1 avg=1 std=0\ncount=3 curr=1(all same)\n"
    assert benchmark_log.parse(log + profile, "cpu") == benchmark_log.parse(log, "cpu")
    windows = logs("ok")[0].replace("\n", "\r\n")
    assert benchmark_log.parse(windows, "cpu") == benchmark_log.parse(log, "cpu")


@pytest.mark.parametrize(
    ("name", "accelerator", "message"),
    [
        ("fallback", "gpu", "silent fall-back to CPU: the GPU delegate executes no part of the model"),
        ("unmentioned", "gpu", "silent fall-back to CPU: the log does not say that the GPU delegate executes"),
        ("partial", "gpu", "partial fall-back to CPU: the GPU delegate executes 3 parts of the model, not all"),
        ("fallback", "cpu", "silent fall-back to kernels without XNNPACK"),
    ],
)
def test_figures_of_another_accelerator_are_invalid(name, accelerator, message):
    for log in logs(name, benchmark_log.DELEGATES[accelerator]):
        with pytest.raises(MeasurementInvalid, match=message):
            benchmark_log.parse(log, accelerator)


def test_xnnpack_may_leave_operators_to_other_kernels_of_the_cpu():
    for log in logs("partial"):
        assert benchmark_log.parse(log, "cpu").delegate == "XNNPACK, 3 parts"
    for log in logs("ok", None):
        assert benchmark_log.parse(log, "cpu_no_xnnpack").delegate == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("disallowed", "the GPU delegate cannot execute the whole model: CONV_2D: OP is supported, but .*; UNPACK: "),
        ("not invoked", r"Node number 3 \(TfLiteGpuDelegateV2\) failed to invoke"),
        ("unreadable", "Could not open '/data/local/tmp/m.tflite'"),
        ("hang", "the log has no line 'Inference timings in us"),
    ],
)
def test_a_log_without_figures_says_why(name, message):
    for log in logs(name, "GPU"):
        with pytest.raises(MeasurementFailed, match=message):
            benchmark_log.parse(log, "gpu")


def test_figures_of_failing_inferences_are_not_taken():
    log = logs("ok", "GPU")[1]
    with pytest.raises(MeasurementFailed, match="failed to invoke"):
        benchmark_log.parse(f"ERROR: Node number 3 (TfLiteGpuDelegateV2) failed to invoke.\n{log}", "gpu")
    with pytest.raises(MeasurementFailed, match="exit code 1"):
        benchmark_log.parse(log, "gpu", exit_code=1)
    with pytest.raises(MeasurementFailed, match="no inference was timed"):
        benchmark_log.parse(re.sub(r"count=69.*", "count=0", log.replace("(avg): 14575.2", "(avg): nan")), "gpu")


def test_only_crashes_of_the_app_are_its_own():
    good = fake_adb.log_lines("ok", ARGS, "XNNPACK")
    assert benchmark_log.crash(fake_adb.logcat([*good, *fake_adb.FOREIGN]), android.PACKAGE) is None
    assert benchmark_log.crash(logs("native crash")[0], android.PACKAGE) == "signal 11 (SIGSEGV)"
    assert "UnsatisfiedLinkError" in benchmark_log.crash(fake_adb.logcat(fake_adb.JAVA), android.PACKAGE)
    tombstone = benchmark_log.crash(fake_adb.logcat(fake_adb.NATIVE[1:]), android.PACKAGE)
    assert tombstone.startswith("signal 11 (SIGSEGV), code 1")


# -- the phone ----------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass while somebody sleeps."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Fake:
    """The phones behind the fake `adb`, and files to measure."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory / "phone"
        self.directory.mkdir()
        monkeypatch.setenv("FAKE_ADB", str(self.directory))
        self.be()
        self.models = directory / "models"
        self.models.mkdir()
        self.clock = Clock()

    def be(self, **scenario):
        (self.directory / "scenario.json").write_text(json.dumps(scenario))

    def model(self, name="m.tflite", content=b"weights"):
        path = self.models / name
        path.write_bytes(b"\x1c\x00\x00\x00TFL3" + content)
        return path

    def device(self, serial="R58N", **settings):
        return android.Device(android.Adb(serial), clock=self.clock, sleep=self.clock.sleep, **settings)

    def calls(self):
        """What `adb` was told since the last time."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def left(self):
        """What lies on the devices."""
        return sorted(str(p.relative_to(self.directory / "files")) for p in (self.directory / "files").rglob("*.*"))


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The fake as a program on PATH."""
    path = tmp_path / "bin" / "adb"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable} -IS\n{pathlib.Path(fake_adb.__file__).read_text()}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return Fake(tmp_path, monkeypatch)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The fake without its process, for speed."""

    def run(command, **settings):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = fake_adb.main(command[1:])
        return subprocess.CompletedProcess(command, code, printed.getvalue())

    names = ("DEVNULL", "PIPE", "STDOUT", "TimeoutExpired")
    here = types.SimpleNamespace(run=run, **{name: getattr(subprocess, name) for name in names})
    monkeypatch.setattr(android, "subprocess", here)
    return Fake(tmp_path, monkeypatch)


def test_a_measurement_by_the_app_leaves_nothing_behind(fake):
    path = fake.model("my model; rm -rf (1).tflite")
    with fake.device() as device:
        assert (device.name, device.ram_MB) == ("Google Pixel 7", 7473)
        assert device.system == "Android 14 (SDK 34, UP1A.231005.007)"
        fake.calls()
        found = device.measure(measurements.Model.read(path), "cpu", threads=4)
    assert found.avg_us == 14575.2 and found.memory_MB == 46.1
    calls = [call.removeprefix("-s R58N ") for call in fake.calls()]
    there = f"/data/local/tmp/tfqnas_{measurements.Model.read(path).digest}.tflite"
    assert calls[0] == f"push {path} {there}"
    started = next(number for number, call in enumerate(calls) if "am start" in call)
    assert calls[started].endswith(f"--es args '--graph={there} --num_threads=4 --num_runs=50 --use_xnnpack=true'")
    assert calls[started - 1].endswith(" -c") and "logcat" in calls[started - 1]  # an old result is never read
    assert calls[-2:] == [f"shell am force-stop {android.PACKAGE}", f"shell rm -f {there}"]
    assert not fake.left()


def test_lines_that_the_device_has_forgotten_by_the_end_were_read_before(fake):
    fake.be(logs={"gpu": "forgetful"})
    with fake.device() as device:
        assert device.measure(measurements.Model.read(fake.model()), "gpu", threads=1).delegate == "GPU"


def test_the_binary_is_pushed_made_executable_and_removed(fake):
    binary = fake.models / "android_aarch64_benchmark_model"
    binary.write_bytes(b"\x7fELF")
    model = measurements.Model.read(fake.model())
    with fake.device(binary=str(binary)) as device:
        assert "-s R58N shell chmod 755 /data/local/tmp/tfqnas_benchmark_model" in fake.calls()
        assert device.measure(model, "gpu", threads=1).delegate == "GPU"
        for name, message in [
            ("native crash", "exit code 139: Segmentation fault"),
            ("wrong processor", "exit code 126: .*not executable: 64-bit ELF"),
            ("disallowed", "the GPU delegate cannot execute the whole model: CONV_2D"),
            ("unreadable", "Could not open"),
        ]:
            fake.be(logs={"gpu": name})
            with pytest.raises(MeasurementFailed, match=message):
                device.measure(model, "gpu", threads=1)
    assert not (fake.directory / "files/R58N/tfqnas_benchmark_model").exists() and not fake.left()


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"logs": {"cpu": "java crash"}}, "the app crashed: java.lang.UnsatisfiedLinkError"),
        ({"logs": {"cpu": "native crash"}}, r"the app crashed: signal 11 \(SIGSEGV\)"),
        ({"logs": {"cpu": "gone"}}, "the app's process ended without a result"),
        ({"logs": {"cpu": "unreadable"}}, "Could not open"),
        ({"logs": {"cpu": "hang"}}, "no result within 9 s"),
        ({"clear": "failed to clear the 'main' log"}, "the device's log cannot be cleared: failed to clear the 'main'"),
        ({"start": "Error type 3\nError: Activity class {x} does not exist."}, "does not start: Error: Activity class"),
        (
            {
                "push": "adb: error: failed to copy '{local}' to '{there}': remote couldn't create file: "
                "No space left on device"
            },
            r"no space left on the device for .*m.tflite \(0 kB\)",
        ),
        (
            {
                "push": "adb: error: failed to copy '{local}' to '{there}': remote couldn't create file: "
                "Permission denied"
            },
            "Permission denied",
        ),
    ],
)
def test_what_goes_wrong_on_a_phone_is_said(fake, scenario, message):
    model = measurements.Model.read(fake.model())
    with fake.device(timeout=9) as device:
        fake.be(**scenario)
        with pytest.raises(MeasurementFailed, match=message):
            device.measure(model, "cpu", threads=1)
    assert not fake.left() and not (fake.directory / "running/R58N").exists()
    assert fake.clock.now <= 9


def test_a_binary_that_hangs_is_killed(fake, monkeypatch):
    model, run = measurements.Model.read(fake.model()), android.subprocess.run

    def hanging(command, **settings):
        if "--graph" in command[-1]:
            raise subprocess.TimeoutExpired(command, settings["timeout"])
        return run(command, **settings)

    with fake.device(binary=str(fake.model("binary"))) as device:
        monkeypatch.setattr(android.subprocess, "run", hanging)
        with pytest.raises(MeasurementFailed, match="no result within 300 s"):
            device.measure(model, "cpu", threads=1)
    assert "-s R58N shell pkill -f /data/local/tmp/tfqnas_benchmark_model" in fake.calls() and not fake.left()


def test_a_device_that_is_unplugged_is_lost(fake):
    model = measurements.Model.read(fake.model())
    with fake.device() as device:
        shells = len((fake.directory / "shells").read_text())
        fake.be(lost_after=shells + 4)
        with pytest.raises(measurements.DeviceLost, match="R58N: device 'R58N' not found"):
            device.measure(model, "cpu", threads=1)


@pytest.mark.parametrize(("devices", "message"), STATES)
def test_devices_that_cannot_be_used_are_said_with_advice(fake, devices, message):
    fake.be(devices=devices)
    with pytest.raises(UserError, match=message):
        android.connected(android.Adb())


def test_devices_are_chosen_by_serial(fake):
    fake.be(devices="R58N\tdevice\nemulator-5554\tdevice\nX\toffline")
    assert android.connected(android.Adb(), ["emulator-5554", "R58N", "R58N"]) == ["emulator-5554", "R58N"]
    with pytest.raises(UserError, match="Y: not connected: connected are R58N, emulator-5554, X"):
        android.connected(android.Adb(), ["R58N", "Y"])
    fake.be()
    assert android.connected(android.Adb()) == ["R58N"]


def test_a_missing_adb_is_said_with_where_it_comes_from(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/adb was not found: install the package adb \(Debian, Ubuntu\)"):
        android.connected(android.Adb(program=str(tmp_path / "nowhere/adb")))


def test_the_app_is_installed_or_asked_for(fake):
    apk = fake.models / "app.apk"
    apk.write_bytes(b"PK")
    fake.be(installed=False)
    with pytest.raises(UserError, match="benchmark is not installed: give its file with `apk`"), fake.device():
        pass
    with fake.device(apk=str(apk)):
        assert f"-s R58N install -r -d -g {apk}" in fake.calls()
    with fake.device():  # it is there now
        pass
    failure = "adb: failed to install app.apk: Failure [INSTALL_FAILED_NO_MATCHING_ABIS: Failed to extract, res=-113]"
    fake.be(installed=False, install=failure)
    with (
        pytest.raises(UserError, match="INSTALL_FAILED_NO_MATCHING_ABIS.*: it was built for another"),
        fake.device(apk=str(apk)),
    ):
        pass
    with pytest.raises(UserError, match="none.apk: no such file"):
        fake.device(apk="none.apk")


# -- the table ----------------------------------------------------------------------------------------


def row(**changes):
    values = dict.fromkeys(field.name for field in dataclasses.fields(measurements.Row)) | {
        "model": "a, b.tflite",
        "sha256": "0123456789012345",
        "file_kB": 134.3,
        "serial": "R58N",
        "via": "app",
        "accelerator": "cpu",
        "threads": 4,
        "device": "Pixel",
        "system": 'Android "14"',
        "delegate": "",
        "status": "ok",
        "when": "2026-11-21T10:00:00+00:00",
    }
    return measurements.Row(**values | changes)


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "latency.csv"
    table = measurements.MeasurementTable(path)
    rows = [row(avg_us=2950340.0, runs=50, p95_us=62), row(threads=1, status='failed: it, "said"')]
    for one in rows:
        table.append(one)
    assert measurements.MeasurementTable(path).rows == rows == table.rows
    with path.open() as file:
        assert [line["avg_us"] for line in csv.DictReader(file)] == ["2950340.0", ""]


@pytest.mark.parametrize("cut", [1, 30, 90])
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path, cut):
    path = tmp_path / "latency.csv"
    table = measurements.MeasurementTable(path)
    table.append(row())
    table.append(row(threads=1))
    path.write_bytes(path.read_bytes()[:-cut])
    again = measurements.MeasurementTable(path)
    assert [one.threads for one in again.rows] == [4]
    again.append(row(threads=2))
    assert [one.threads for one in measurements.MeasurementTable(path).rows] == [4, 2]


def test_a_table_that_was_killed_within_its_first_line_begins_anew(tmp_path):
    path = tmp_path / "latency.csv"
    path.write_text("model,sha2")
    measurements.MeasurementTable(path).append(row())
    assert measurements.MeasurementTable(path).rows == [row()]


def test_other_files_are_not_written_to(tmp_path):
    path = tmp_path / "results.csv"
    for content in ("name,ms\nm,3\n", "notes without an end"):
        path.write_text(content)
        with pytest.raises(UserError, match="its first line is not that of a latency table; choose another `output`"):
            measurements.MeasurementTable(path)
        assert path.read_text() == content
    measurements.MeasurementTable(tmp_path / "latency.csv").append(row())
    with open(tmp_path / "latency.csv", "a") as file:
        file.write("one,two\n")
    with pytest.raises(UserError, match="latency.csv, line 3: not a row of this table"):
        measurements.MeasurementTable(tmp_path / "latency.csv")


def test_on_a_full_disk_the_rows_before_are_kept(tmp_path, monkeypatch):
    table = measurements.MeasurementTable(tmp_path / "latency.csv")
    table.append(row())
    before = table.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(android.os, "fsync", full)
    with pytest.raises(UserError, match=r"a row cannot be written \(No space left.*the rows before it are kept"):
        table.append(row(threads=1))
    assert table.path.read_bytes() == before
    with pytest.raises(UserError, match="No space left on device"):
        measurements.MeasurementTable("/dev/full")


def test_a_failed_measurement_is_repeated_and_its_last_row_counts(fake):
    model = measurements.Model.read(fake.model())
    table = measurements.MeasurementTable(fake.models / "latency.csv")
    moment = datetime.datetime(2026, 11, 21, 10, tzinfo=datetime.UTC)
    fake.be(logs={"gpu": "fallback"})
    with fake.device() as device:
        todo = measurements.jobs(device, [model, model], ["cpu", "gpu"], [1])
        rows = list(measurements.measure_all(todo, table, now=lambda: moment))
        assert [one.status.split(":")[0] for one in rows] == ["ok", "invalid"]
        assert rows[1].avg_us is None and rows[0].when == "2026-11-21T10:00:00+00:00"
        fake.be()
        table = measurements.MeasurementTable(table.path)
        todo = [job for job in todo if not table.holds(job.key)]
        assert [job.accelerator for job in todo] == ["gpu"]
        list(measurements.measure_all(todo, table))
    assert [one.status for one in measurements.MeasurementTable(table.path).rows] == ["ok", "ok"]
    assert len(table.path.read_text().splitlines()) == 4  # nothing that was written is taken back
    changed = measurements.Model.read(fake.model(content=b"other weights"))
    assert not table.holds(measurements.jobs(device, [changed], ["cpu"], [1])[0].key)  # the same name, another file


def test_with_a_lost_device_its_list_ends(fake):
    models = [measurements.Model.read(fake.model(f"{n}.tflite", bytes([n]))) for n in range(3)]
    table = measurements.MeasurementTable(fake.models / "latency.csv")
    pauses = []
    with fake.device() as device:
        todo = measurements.jobs(device, models, ["cpu"], [1])
        first = next(measurements.measure_all(todo[:1], table))
        fake.be(lost_after=0)
        rows = list(measurements.measure_all(todo[1:], table, pause=5, sleep=pauses.append))
    assert first.status == "ok" and [one.status for one in rows] == [
        "failed: device lost: R58N: device 'R58N' not found"
    ]
    assert not pauses and [one.status for one in measurements.MeasurementTable(table.path).rows] == [
        "ok",
        rows[0].status,
    ]


def test_models_are_found_by_pattern_and_checked(fake):
    paths = [fake.model(name, name.encode()) for name in ("a.tflite", "b.tflite", "c[1].tflite")]
    pattern = str(fake.models / "?.tflite")
    assert [model.path for model in measurements.find_models([pattern, str(paths[2])])] == list(map(str, paths))
    fake.model("copy.tflite", b"a.tflite")
    assert len(measurements.find_models([str(fake.models / "*")])) == 3
    with pytest.raises(UserError, match=r"nothing\*.tflite: no such file"):
        measurements.find_models([str(fake.models / "nothing*.tflite")])
    (fake.models / "d.tflite").write_bytes(b"foreign")
    with pytest.raises(UserError, match=r"d.tflite: not a .tflite file .*expected b'TFL3'"):
        measurements.find_models([str(fake.models / "d.*")])


# -- this computer ------------------------------------------------------------------------------------


@pytest.fixture
def tiny_file(tmp_path):
    """A real model: one fully connected layer."""
    rng, one = np.random.default_rng(0), np.float32([0.05])
    tensors = [
        IntTensor("x", (16,), one),
        IntTensor("w", (4, 16), one, data=rng.integers(-128, 128, (4, 16)).astype(np.int8)),
        IntTensor("b", (4,), one * one, dtype="int32", data=np.zeros(4, np.int32)),
        IntTensor("y", (4,), one),
    ]
    path = tmp_path / "tiny.tflite"
    path.write_bytes(
        write(IntGraph({t.name: t for t in tensors}, (IntOp("fully_connected", ("x", "w", "b"), ("y",)),), "x", "y"))
    )
    return path


def test_this_computer_is_measured_by_litert_benchmark(tiny_file, tmp_path):
    host = host_benchmark.Host(runs=3)
    found = host.measure(measurements.Model.read(tiny_file), "cpu", threads=1)
    assert found.runs == 3 and found.min_us <= found.median_us <= found.max_us and found.init_us > 0
    assert found.memory_MB is None
    # Less than the 10 us to which litert-benchmark rounds, and not a multiple of them.
    assert 0 < found.min_us < 1000 and any(us % 10 for us in (found.avg_us, found.median_us, found.max_us))
    with pytest.raises(UserError, match="accelerator cpu_no_xnnpack: on this computer expected one of cpu, gpu"):
        host.measure(measurements.Model.read(tiny_file), "cpu_no_xnnpack", threads=1)
    (tmp_path / "cut.tflite").write_bytes(tiny_file.read_bytes()[:40])
    with pytest.raises(MeasurementFailed, match="litert-benchmark (was killed by signal|failed: )"):
        host.measure(measurements.Model.read(tmp_path / "cut.tflite"), "cpu", threads=1)
    with pytest.raises(MeasurementFailed, match="no result within 0.01 s"):
        host_benchmark.Host(timeout=0.01).measure(measurements.Model.read(tiny_file), "cpu", threads=1)


def test_what_the_gpu_of_this_computer_leaves_to_the_cpu_is_invalid():
    latency = dict.fromkeys(("init", "warmup_first", "avg", "min", "max", "median", "std", "p5", "p95"), 0.07)
    result = {"latency": {f"{key}_ms": value for key, value in latency.items()} | {"num_runs": 50}}
    whole = result | {"accelerators": ["GPU"], "fully_accelerated": True}
    assert host_benchmark.figures(whole, "gpu").avg_us == 70 and host_benchmark.figures(whole, "gpu").delegate == "GPU"
    for part in ({"fully_accelerated": False}, {"accelerators": ["GPU", "CPU"]}):
        with pytest.raises(MeasurementInvalid, match="fall-back to CPU"):
            host_benchmark.figures(whole | part, "gpu")
    result["latency"] |= {"avg_ms": 0.0, "min_ms": 0.0, "median_ms": 0.0}
    with pytest.raises(MeasurementInvalid, match="faster than litert-benchmark's times"):
        host_benchmark.figures(result, "cpu")


# -- the tool -----------------------------------------------------------------------------------------


def tool(*arguments):
    """`(exit code, standard output, standard error)` of the tool."""
    poll = [] if any("--binary" in str(argument) for argument in arguments) else ["--poll=0.001"]
    command = [sys.executable, str(ROOT / "tools/android_benchmark.py"), *poll, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_tool_measures_a_list_on_two_phones_and_continues_it(program):
    program.model("a b.tflite")
    program.be(devices="R58N\tdevice\nemulator-5554\tdevice", logs={"gpu": "fallback"})
    output = program.models / "latency.csv"
    flags = [f"--models={program.models}/*.tflite", "--serials=R58N,emulator-5554", "--threads=1", f"--output={output}"]
    code, out, err = tool(*flags, "--accelerators=cpu,gpu")
    assert code == 1 and "2 of 4 measurements failed or are invalid: " in err and "the same command repeats" in err
    assert out.count("14,575.2 us") == 2 and out.count("invalid: silent fall-back to CPU") == 2 * 2
    assert "[1/2] R58N" in out and "[2/2] emulator-5554" in out and "left" in out
    assert re.search(r"a b\.tflite +Google Pixel 7 +cpu +1 +69 +14,575\.2 +109\.0 +14,820 +5,685 +46\.1 +ok", out), out
    with output.open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert not program.left()
    program.calls()
    code, out, err = tool(*flags, "--accelerators=cpu")
    assert (code, err) == (0, "") and out.count("already done") == 2
    assert not [call for call in program.calls() if "am start" in call or "push" in call]
    assert tool(*flags, "--accelerators=cpu,gpu", "--allow_failures")[0] == 0


def test_the_tool_goes_on_with_other_phones_when_one_is_lost(program):
    for name in ("a.tflite", "c.tflite"):
        program.model(name, name.encode())
    program.be(lost_after=8)
    code, out, err = tool(f"--models={program.models}/*.tflite", f"--output={program.models}/latency.csv")
    assert code == 1 and "1 of 2 measurements failed or are invalid, 1 not made: " in err, err
    assert "failed: device lost: R58N: device 'R58N' not found" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=none/*.tflite"], "none/*.tflite: no such file"),
        (["--accelerators=cpu,npu"], "--accelerators: expected some of cpu, cpu_no_xnnpack, gpu, received npu"),
        (["--threads=1,x"], "--threads: expected whole numbers from 1 on, separated by commas, received x"),
        (["--threads=0"], "received 0"),
        (["--host", "--serials=R58N"], "--serials: has no effect with --host"),
        (["--host", "--accelerators=cpu_no_xnnpack"], "--accelerators: expected some of cpu, gpu"),
        (["--binary=x", "--via=app"], "expected one of them"),
        (["--via=binary"], "--binary: expected the file with --via=binary, received nothing"),
        (["--binary=no/binary"], "no/binary: no such file"),
        (["--adb=no/adb"], "no/adb was not found: install the package adb"),
        (["a.tflite"], "expected flags only, received a.tflite"),
    ],
)
def test_mistakes_are_answered_before_anything_is_measured(program, arguments, message):
    path = program.model()
    code, _, err = tool(f"--models={path}", f"--output={program.models}/latency.csv", *arguments)
    assert code == 1 and message in err, err
    assert not (program.models / "latency.csv").exists()


def test_the_guide_names_flags_that_exist():
    flags = set(benchmark.FLAGS)
    guide = (ROOT / "docs/android.md").read_text()
    commands = re.findall(r"tools/android_benchmark\.py((?:[^\n]|\\\n)*)", guide)
    named = {flag for command in commands for flag in re.findall(r"--(\w+)", command)}
    assert named and named <= flags


# -- the real adb -------------------------------------------------------------------------------------

_PACKAGES = ("adb", "android-libbase", "android-libboringssl", "android-libcutils", "android-liblog", "libusb-1.0-0")


def real_adb(directory):
    """The path of a real `adb`: the machine's, or Debian's, unpacked in a cache directory without root."""
    if found := shutil.which("adb"):
        return found
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        # The one test of the real program; all others drive the fake. No Debian: there is nothing to fetch it with.
        pytest.skip("there is no adb, and no apt-get to fetch it with")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tfqnas/adb"
    if not cache.exists():
        done = subprocess.run(["apt-get", "-q", "download", *_PACKAGES], cwd=directory, capture_output=True, text=True)
        if done.returncode:
            # No registry in reach; an adb that is there and misbehaves fails the test.
            pytest.skip(f"adb cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, directory / "root"], check=True)
        made = cache.with_name(f"adb-{os.getpid()}")
        shutil.copytree(directory / "root", made, symlinks=True)
        made.rename(cache)
    libraries = {str(path.parent) for path in cache.rglob("*.so*")}
    program = directory / "adb"
    (real,) = cache.glob("usr/lib/android-sdk/platform-tools/adb")
    program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{":".join(sorted(libraries))}" exec "{real}" "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.slow
def test_the_real_adb_without_a_device_is_understood(tmp_path, monkeypatch):
    program = real_adb(tmp_path)
    with socket.socket() as some:  # a server of its own, that no other program talks to
        some.bind(("localhost", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(some.getsockname()[1]))
    monkeypatch.setenv("HOME", str(tmp_path))  # adb makes its keys there
    try:
        with pytest.raises(UserError, match="no device: connect a phone by USB"):
            android.connected(android.Adb(program=program))
        with pytest.raises(UserError, match="no device: connect a phone by USB"):
            android.connected(android.Adb(program=program), ["R58N"])
        with pytest.raises(measurements.DeviceLost, match="R58N: device 'R58N' not found"):
            android.Adb("R58N", program).run("shell", "getprop")
        with pytest.raises(measurements.DeviceLost, match="R58N: device 'R58N' not found"):
            android.Adb("R58N", program).run("push", __file__, "/data/local/tmp")
        with pytest.raises(measurements.DeviceLost, match="no devices/emulators found"):
            android.Adb(program=program).run("shell", "getprop")
    finally:
        subprocess.run([program, "kill-server"], capture_output=True)
