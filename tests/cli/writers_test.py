"""While a command writes, another one for the same place ends with a line that says who does, and changes nothing."""

import subprocess
import sys

import pytest

from tests.cli.calls import refused

HOLDER = """
import sys
from tfqnas.locks import writer
sys.argv[0] = "tfqnas"
path, sys.argv[1], *files = sys.argv[1:]
with writer(path, "run_dir", files):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def written(tmp_path):
    """`written(path, *files)`: from now on another process writes there."""
    processes = []

    def written(path, *files):
        command = [sys.executable, "-c", HOLDER, path, "train", *files]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "has it\n"
        return f"{path} is being written by tfqnas train (process {process.pid} on "

    yield written
    for process in processes:
        process.communicate()


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["train", "run", "search", "analyze"])
def test_a_run_directory(name, tmp_path, written):
    path = tmp_path / "run"
    expected = written(path)
    refused(expected, name, f"--run_dir={path}")
    refused(": wait until it ends, or give another --run_dir", name, f"--run_dir={path}")
    assert [entry.name for entry in path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("name", "file", "more"),
    [
        ("export_tflite", "m.tflite", ["--model=m.keras"]),
        ("compare_fronts", "fronts.png", ["--run_dirs=a,b"]),
        ("latency_table", "t.jsonl", ["--space=tiny", "--classes=10", "--channels=1"]),
    ],
)
def test_single_files(name, file, more, tmp_path, written):
    path = tmp_path / file
    expected = written(path, path)
    output = path.with_suffix(".json") if name == "latency_table" else path
    refused(expected, name, *more, f"--output={output}")
    refused("wait until it ends, or give another --output", name, *more, f"--output={output}")
    assert [entry.name for entry in tmp_path.iterdir()] == [f".{file}.lock"]
