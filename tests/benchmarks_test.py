import math
import os
import pathlib
import subprocess
import sys

import pytest

from tfqnas.files import append_jsonl

ROOT = pathlib.Path(__file__).parents[1]


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "training.py"), *arguments], capture_output=True, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip


def values(output):
    """The measured number of each row, by the row's name."""
    return {line[:44].strip(): float(line[44:56].replace(",", "")) for line in output.splitlines()[3:]}


@pytest.mark.slow
def test_the_short_form_measures_every_ratio(tmp_path):
    for stage, wait in (("largest_b4", 0.01), ("supernet_b4", 0.03)):
        append_jsonl(tmp_path / "log.jsonl", {"stage": stage, "event": "finished", "seconds": 10, "input_wait": wait})
    result = benchmark("--short", f"--run_dir={tmp_path}")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert {
        "sandwich step / four static networks",
        "LSQ training step / without quantizers",
        "LSQ training memory / without quantizers",
        "score of a subnet / bare forward passes",
        "architectures counted a minute",
    } <= measured.keys()
    assert all(math.isfinite(value) and value > 0 for value in measured.values())
    assert measured["share of time waiting for input"] == pytest.approx(0.02)


def test_wrong_parts_are_refused():
    result = benchmark("--only=sandwich,lunch")
    assert result.returncode == 2
    assert "--only: expected some of sandwich,lsq,score,depthwise,count,input, received lunch" in result.stderr
