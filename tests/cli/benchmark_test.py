"""The tool that measures files on phones."""

import csv
import pathlib
import re
import subprocess
import sys

import pytest

from tests.tflite_export.phones import program  # noqa: F401  a fixture
from tfqnas.cli import benchmark

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(*arguments):
    """`(exit code, standard output, standard error)` of the tool."""
    poll = [] if any("--binary" in str(argument) for argument in arguments) else ["--poll=0.001"]
    command = [sys.executable, str(ROOT / "tools/android_benchmark.py"), *poll, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_tool_measures_a_list_on_two_phones_and_continues_it(program):  # noqa: F811
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


def test_the_tool_goes_on_with_other_phones_when_one_is_lost(program):  # noqa: F811
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
def test_mistakes_are_answered_before_anything_is_measured(program, arguments, message):  # noqa: F811
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
