"""What measures files for latency tables: numbers and units of each device."""

import dataclasses
import itertools

import pytest

from tflite_export import meters, npu, pieces
from tflite_export.writer import write
from tfqnas.errors import UserError


def test_the_host_takes_the_median_of_inferences():
    ticks = itertools.count()
    # Every look at the clock is a second after the one before: two for an inference, and one whether it is enough.
    meter = meters.HostMeter(seconds=20, clock=lambda: next(ticks))
    assert meter.measure(write(pieces.nothing())) == 1000
    assert next(ticks) >= 20
    assert meter.unit == "ms" and meter.device.startswith("host ")


def test_a_phone_says_microseconds_and_is_asked_to_rest(fake):
    slept = []
    meter = meters.AndroidMeter(fake.device(), threads=4, pause=7, sleep=slept.append)
    assert meter.device == "Android: Google Pixel 7, Android 14 (SDK 34, UP1A.231005.007), cpu"
    with meter:
        assert meter.measure(write(pieces.nothing())) == 14.560
        fake.be(logs={"cpu": "old"})  # says no median
        assert meter.measure(write(pieces.nothing())) == 14.5752
        fake.be(logs={"cpu": "java crash"})
        with pytest.raises(UserError, match="the app crashed"):
            meter.measure(write(pieces.nothing()))
    assert slept == [7, 7, 7] and not fake.left()


def test_an_npu_has_cycles_or_milliseconds_and_must_do_all_the_work(monkeypatch):
    report = npu.NpuReport("m", "ethos-u55-128", 3, 0, (), 1500.0, 0.003)
    monkeypatch.setattr(npu, "check", lambda path, target, timeout: report)
    assert meters.VelaMeter().measure(b"") == 1500
    assert meters.VelaMeter(unit="ms").measure(b"") == 0.003
    report = dataclasses.replace(report, cpu_operators=1, left=("SOFTMAX 'y'",))
    with pytest.raises(UserError, match="ethos-u55-128 leaves operators to the CPU, .*: SOFTMAX 'y'"):
        meters.VelaMeter().measure(b"")
    with pytest.raises(UserError, match="target ethos-u99: expected one of ethos-u55-32"):
        meters.VelaMeter("ethos-u99")


def test_the_compiler_estimates_the_smallest_piece():
    assert meters.VelaMeter().measure(write(pieces.nothing())) > 0
