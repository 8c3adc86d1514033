"""Parsing of real log formats of LiteRT's benchmark tool."""

import dataclasses
import re

import pytest

from tests.tflite_export import fake_adb
from tflite_export import android, benchmark_log
from tflite_export.benchmark_log import MeasurementFailed, MeasurementInvalid

ARGS = "--graph=/data/local/tmp/m.tflite --num_threads=4"


def logs(name, delegate="XNNPACK"):
    """The same run as the app and as the binary write it."""
    lines = fake_adb.log_lines(name, ARGS, delegate)
    return fake_adb.logcat(lines), fake_adb.binary_output(lines)


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
