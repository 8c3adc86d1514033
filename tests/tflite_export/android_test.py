"""`adb` and the benchmark app of a phone, behind a fake; and the real `adb` without a phone."""

import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from tflite_export import android, measurements
from tflite_export.benchmark_log import MeasurementFailed
from tfqnas.errors import UserError

# What `adb devices` says of one phone, and what is to be answered.
STATES = [
    ("", "no device: connect a phone by USB, switch on USB debugging"),
    ("R58N\tunauthorized", "R58N: unauthorized: unlock it and answer its question"),
    ("R58N\toffline", "R58N: offline: unplug it"),
    ("R58N\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]", "install udev rules"),
    ("R58N\trecovery", "R58N: recovery"),
    ("R58N\tdevice\nemulator-5554\tdevice", "2 devices are connected: choose with `serials`, of R58N, emulator-5554"),
]


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
