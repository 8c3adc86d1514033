"""Measures the latency of `.tflite` files on Android phones with TensorFlow Lite's benchmark app or binary, over `adb`.

    devices = [android.Device(android.Adb(serial=s), apk="app.apk") for s in android.connected(android.Adb())]
    with devices[0] as device:
        print(device.measure(measurements.Model.read("m.tflite"), "cpu", threads=4))

`measurements.measure_all` works through a list of such measurements and writes a table from which a killed run resumes.
`host_benchmark.py` does the same on this computer.
"""

import contextlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Self

from tflite_export import benchmark_log
from tflite_export.benchmark_log import Measurement, MeasurementFailed
from tflite_export.measurements import DeviceLost, Model
from tfqnas.errors import UserError

PACKAGE = "org.tensorflow.lite.benchmark"
ACCELERATORS = {
    "cpu": ("--use_xnnpack=true",),
    "cpu_no_xnnpack": ("--use_xnnpack=false",),
    "gpu": ("--use_gpu=true", "--require_full_delegation=true"),
}
_FOLDER = "/data/local/tmp"
_TOOL = f"{_FOLDER}/tfqnas_benchmark_model"
_BUFFERS = "-b main -b system -b crash -b events"
_TAGS = (
    "tflite:V tflite_BenchmarkModelActivity:V AndroidRuntime:E libc:F DEBUG:F wm_finish_activity:V am_finish_activity:V"
)
_STATES = {
    "unauthorized": "unlock it and answer its question whether to allow USB debugging",
    "offline": "unplug it and plug it in again; if that does not help: adb kill-server",
    "no permissions": "this user may not open the USB device: install udev rules for it (Debian and Ubuntu: package "
    "android-sdk-platform-tools-common) and join the group plugdev",
}
_INSTALL = {
    "NO_MATCHING_ABIS": "it was built for another processor; 64-bit phones take android_aarch64_benchmark_model.apk",
    "INSUFFICIENT_STORAGE": "free space on the device",
    "UPDATE_INCOMPATIBLE": f"another build of the app is installed; remove it: adb uninstall {PACKAGE}",
    "USER_RESTRICTED": "allow installation over USB in the phone's developer options",
}
_LOST = re.compile(
    r"(?:error|adb): (?:.*: )?(device '.*' not found|device (?:offline|unauthorized|still \w+)"
    r"|no devices/emulators found|closed$)",
    re.MULTILINE,
)


class Adb:
    """Runs the program `adb`, with the option that selects one device if `serial` is given."""

    def __init__(self, serial: str | None = None, program: str = "adb") -> None:
        self.serial, self.program = serial, program

    def run(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `adb WORDS`. Standard output and standard error are both in `stdout` of the result.

        Raises:
            UserError: `adb` is not installed.
            DeviceLost: the device does not answer.
            MeasurementFailed: the command did not end within `timeout` seconds.
        """
        command = [self.program, *(["-s", self.serial] if self.serial else []), *words]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except FileNotFoundError:
            raise UserError(
                f"{self.program} was not found: install the package adb (Debian, Ubuntu) or Android's platform tools, "
                "https://developer.android.com/tools/releases/platform-tools"
            ) from None
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"adb {words[0]} did not end within {timeout:g} s") from None
        if done.returncode and (lost := _LOST.search(done.stdout)):
            raise DeviceLost(f"{self.serial or 'adb'}: {lost[1]}")
        return done


def connected(adb: Adb, serials: Sequence[str] = ()) -> list[str]:
    """The serial numbers of the devices to measure on.

    Args:
        adb: `Adb` without a serial.
        serials: the devices that were asked for; if empty, the only connected device is taken.

    Raises:
        UserError: no device is connected, the choice is not unique, or a device may not be used. The message says what
            to do.
    """
    done = adb.run("devices")
    _, head, listed = done.stdout.partition("List of devices attached")
    if done.returncode or not head:
        raise UserError(f"adb devices failed: {_last_line(done.stdout)}")
    states = dict(line.split("\t", 1) for line in listed.splitlines() if "\t" in line)
    if not states:
        raise UserError(
            "no device: connect a phone by USB, switch on USB debugging in its developer options, and see that "
            "`adb devices` lists it"
        )
    if not serials and len(states) > 1:
        raise UserError(f"{len(states)} devices are connected: choose with `serials`, of {', '.join(states)}")
    chosen = list(dict.fromkeys(serials or states))
    for serial in chosen:
        state = states.get(serial, "not connected")
        if state != "device":
            advice = next((text for start, text in _STATES.items() if state.startswith(start)), "")
            advice = advice or f"connected are {', '.join(states)}"
            raise UserError(f"{serial}: {state}: {advice}")
    return chosen


class Device:
    """A phone, used as a context: entering installs the benchmark, leaving removes the files that were pushed.

    Args:
        adb: `Adb` of the device.
        binary: path of the command-line tool, used instead of the app.
        apk: path of the app, installed on entering; None if the app is already installed.
        runs: smallest number of timed inferences; the tool also runs for at least one second.
        timeout: seconds allowed for one measurement.
        poll: seconds between two reads of the log.
        clock, sleep: replaced in tests.
    """

    def __init__(
        self,
        adb: Adb,
        binary: str | None = None,
        apk: str | None = None,
        runs: int = 50,
        timeout: float = 300,
        poll: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._adb, self._binary, self._apk, self._runs = adb, binary, apk, runs
        self._timeout, self._poll, self._clock, self._sleep = timeout, poll, clock, sleep
        self.serial, self.via = str(adb.serial), "binary" if binary else "app"
        for path in filter(None, (binary, apk)):
            if not os.path.isfile(path):
                raise UserError(f"{path}: no such file")
        said = adb.run("shell", "getprop; cat /proc/meminfo").stdout
        properties = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]\r?$", said, re.MULTILINE))
        maker, model, release, sdk, build = (
            properties.get(f"ro.{key}", "?")
            for key in (
                "product.manufacturer",
                "product.model",
                "build.version.release",
                "build.version.sdk",
                "build.id",
            )
        )
        self.name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
        self.system = f"Android {release} (SDK {sdk}, {build})"
        memory = re.search(r"^MemTotal: +(\d+) kB", said, re.MULTILINE)
        self.ram_MB = int(memory[1]) // 1024 if memory else None

    def __enter__(self) -> Self:
        if self._binary:
            self._push(self._binary, _TOOL, "755")
            return self
        if self._apk:
            said = self._adb.run("install", "-r", "-d", "-g", self._apk, timeout=300).stdout
            if "Success" not in said:
                advice = next((f": {text}" for code, text in _INSTALL.items() if code in said), "")
                failure = re.search(r"Failure \[(.+?)\]", said)
                why = failure[1] if failure else _last_line(said)
                raise UserError(f"{self.serial}: {self._apk} cannot be installed: {why}{advice}")
        elif "package:" not in self._shell(f"pm path {PACKAGE}"):
            raise UserError(
                f"{self.serial}: the app {PACKAGE} is not installed: give its file with `apk`, or the command-line "
                "tool with `binary` (docs/android.md says where they are)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._binary:
            with contextlib.suppress(UserError):  # the device may be gone
                self._shell(f"rm -f {_TOOL}")

    def measure(self, model: Model, accelerator: str, threads: int) -> Measurement:
        """Times a `Model` on an accelerator (a key of `ACCELERATORS`).

        Raises:
            MeasurementFailed: the tool crashed, hung or refused the model, or the device is full.
            MeasurementInvalid: another accelerator did the work.
            DeviceLost: the device does not answer.
        """
        # The tool splits its arguments at white space, so the file gets a name without any on the device.
        there = f"{_FOLDER}/tfqnas_{model.digest}.tflite"
        arguments = " ".join(
            [f"--graph={there}", f"--num_threads={threads}", f"--num_runs={self._runs}", *ACCELERATORS[accelerator]]
        )
        try:
            self._push(model.path, there, "644")
            log, exit_code = self._run_binary(arguments) if self._binary else (self._run_app(arguments), 0)
        finally:
            self._shell(f"rm -f {there}")
        return benchmark_log.parse(log, accelerator, exit_code)

    def _shell(self, command: str) -> str:
        return self._adb.run("shell", command).stdout

    def _push(self, path: str, there: str, mode: str) -> None:
        done = self._adb.run("push", str(path), there, timeout=300)
        if done.returncode:
            why = _last_line(done.stdout)
            if "No space left" in why:
                why = f"no space left on the device for {path} ({os.path.getsize(path) / 1000:,.0f} kB)"
            raise MeasurementFailed(why)
        self._shell(f"chmod {mode} {there}")  # push keeps the mode of the file, and the app runs as another user

    def _run_binary(self, arguments: str) -> tuple[str, int]:
        try:
            done = self._adb.run("shell", f"{_TOOL} {arguments}", timeout=self._timeout)
        except MeasurementFailed:
            self._shell(f"pkill -f {_TOOL}")
            raise MeasurementFailed(f"no result within {self._timeout:g} s") from None
        return done.stdout, done.returncode

    def _run_app(self, arguments: str) -> str:
        self._shell(f"am force-stop {PACKAGE}")
        cleared = self._adb.run("shell", f"logcat {_BUFFERS} -c")
        if cleared.returncode:
            raise MeasurementFailed(f"the device's log cannot be cleared: {_last_line(cleared.stdout)}")
        try:
            started = self._shell(
                f"am start -S -n {PACKAGE}/.BenchmarkModelActivity --es args {shlex.quote(arguments)}"
            )
            if problem := re.search(r"^(?:Error|.*Exception).*", started, re.MULTILINE):
                raise MeasurementFailed(f"the app does not start: {_last_line(started[problem.start() :])}")
            return self._wait()
        finally:
            self._shell(f"am force-stop {PACKAGE}")

    def _wait(self) -> str:
        """Waits until the app has ended and returns its log."""
        deadline, seen, kept = self._clock() + self._timeout, False, {}
        while True:
            # The process is looked up before its log is read: if it has ended, the log is complete.
            said = self._shell(f"echo pid=$(pidof {PACKAGE}); logcat -d -v threadtime {_BUFFERS} -s {_TAGS}")
            alive = re.search(r"^pid=\d", said, re.MULTILINE) is not None
            kept.update(dict.fromkeys(said.splitlines()))  # the device drops the oldest lines when others log much
            log = "\n".join(kept)
            gone, late = seen and not alive, self._clock() >= deadline
            if benchmark_log.is_whole(log) or benchmark_log.finished(log, PACKAGE):
                return log
            if (gone or late) and benchmark_log.has_timings(log):
                return log
            if why := benchmark_log.crash(log, PACKAGE):
                raise MeasurementFailed(f"the app crashed: {why}")
            if gone:
                raise MeasurementFailed("the app's process ended without a result and without a crash in the log")
            if late:
                raise MeasurementFailed(f"no result within {self._timeout:g} s")
            seen |= alive
            self._sleep(self._poll)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"
