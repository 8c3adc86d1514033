import json
import math
import pathlib

import pytest

from tests import processes
from tfqnas.files import append_jsonl

ROOT = pathlib.Path(__file__).parents[1]


def benchmark(*arguments, name="training", directory="benchmarks"):
    return processes.run([ROOT / directory / f"{name}.py", *arguments])


def values(output):
    """The measured number of each row below the heading, by the row's name."""
    lines = output.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.split()[:1] == ["median"])
    return {line[:44].strip(): float(line[44:56].replace(",", "")) for line in lines[heading + 1 :]}


@pytest.mark.slow
def test_the_short_form_measures_every_ratio(tmp_path):
    for stage, wait in (("largest_b4", 0.01), ("supernet_b4", 0.03)):
        append_jsonl(tmp_path / "log.jsonl", {"stage": stage, "event": "finished", "seconds": 10, "input_wait": wait})
    result = benchmark("--short", f"--run_dir={tmp_path}")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert {
        "sandwich step / four static networks",
        "mixed sandwich of six / with one bit width",
        "evaluation / with one bit width",
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
    assert "--only: expected some of sandwich,mixed,lsq,score,depthwise,count,input, received lunch" in result.stderr


@pytest.mark.slow
def test_the_short_form_times_every_searcher():
    result = benchmark("--short", name="search")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert list(measured) == ["nsga2", "three objectives, a limit", "one by one", "ageing", "bins", "coarse", "pymoo"]
    assert all(math.isfinite(value) and value > 0 for value in measured.values())


@pytest.mark.slow
def test_the_short_form_compares_scorers_and_whole_searches():
    result = benchmark("--short", name="scoring")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert measured.keys() == {
        "short, random: subnets an hour",
        "short, kernels: subnets an hour",
        "with early stopping",
        "search of 4 bits, seed 0: ours / plain",
        "search of 4 bits: ours / plain",
    }
    assert all(math.isfinite(value) and value > 0 for value in measured.values())


def test_a_search_to_compare_needs_a_trained_supernet():
    result = benchmark("--only=search", name="scoring")
    assert result.returncode == 2 and "--only=search: expected --run_dir" in result.stderr


@pytest.mark.slow
def test_the_short_form_reads_images_in_every_way():
    result = benchmark("--short", name="input")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert list(measured) == ["decode, then crop", "crop while decoding", "TFRecord", "ArrayRecord", "in memory"]
    assert measured["decode, then crop"] == 1 and all(math.isfinite(value) and value > 0 for value in measured.values())


@pytest.mark.slow
def test_the_short_form_compares_files_with_the_official_converters():
    result = benchmark("--short", name="export")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert {
        "short: 4 bits / official latency",
        "short: with / without products",
        "8 bits / official latency",
        "packed / int8 latency",
        "short, 16 px: seconds of an export",
        "short, 16 px: its peak memory, GB",
    } <= measured.keys()
    assert all(math.isfinite(value) and value > 0 for value in measured.values())
    # Bytes are the same in every run.
    assert 0.5 <= measured["short: packed / int8 weights"] <= 0.52
    assert measured["packed / int8 file"] < 1 and measured["short: 8 bits / official file"] < 1
    zips = [measured[f"zip at {bits} bits / at 8 bits"] for bits in (4, 3, 2)]
    assert 1 > zips[0] > zips[1] > zips[2]


def test_wrong_parts_of_an_export_are_refused():
    result = benchmark("--only=latency,lunch", name="export")
    assert result.returncode == 2
    assert "--only: expected some of latency,products,sizes,packed,cost, received lunch" in result.stderr


@pytest.mark.slow
def test_a_study_compares_quantizers_of_a_mixed_supernet_and_goes_on_where_it_stopped(tmp_path):
    stage = {"channels": 8, "stride": 2, "depths": [1, 2], "kernels": [3, 5], "expands": [3, 4]}
    space = {
        "name": "small_mixed",
        "resolutions": [12],
        "stem_channels": 8,
        "head_channels": 16,
        "stages": [stage],
        "weight_bits": [2, 4],
        "input_bits": [2, 4],
    }
    (tmp_path / "space.json").write_text(json.dumps(space))
    flags = [
        f"--run_dir={tmp_path}/study",
        f"--space={tmp_path}/space.json",
        "--batch_size=50",
        "--held_out=200",
        "--recalibration_images=100",
        "--float_epochs=0.5",
        "--mixed_epochs=0,0.6",
        "--seeds=3",
        "--subnets=6",
    ]
    result = benchmark(*flags, name="mixed")
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    rows = json.loads((tmp_path / "study/mixed.json").read_text())
    assert [(row["inputs"], row["seed"]) for row in rows] == [("batch_quant", 3), ("lsq", 3)]
    assert all(0 < row["lowest"] <= row["p5"] <= row["median"] <= row["p95"] <= 100 for row in rows)
    assert (tmp_path / "study/mixed.png").stat().st_size > 10_000 and "| BatchQuant | 3 |" in result.stdout
    scored = (tmp_path / "study/lsq_s3/mixtures.jsonl").read_text()
    result = benchmark(*flags, name="mixed")
    assert result.returncode == 0 and (tmp_path / "study/lsq_s3/mixtures.jsonl").read_text() == scored


@pytest.mark.slow
def test_the_short_form_compares_with_tfmot_and_goes_on_where_it_stopped(tmp_path):
    flags = ["--short", f"--run_dir={tmp_path}"]
    result = benchmark(*flags, name="peers")
    assert result.returncode == 0, result.stderr[-4000:]
    rows = [json.loads(line) for line in (tmp_path / "peers.jsonl").read_text().splitlines()]
    arms = {row["arm"]: row for row in rows if "arm" in row}
    assert list(arms) == ["float", "qat", "pruning", "clustering", "lsq8", "lsq4"]
    assert [list(arms[name]["files"]) for name in ("float", "qat", "lsq8", "lsq4")] == [
        ["float32", "int8"],
        ["int8"],
        ["int8"],
        ["int8", "int4"],
    ]
    for name, row in arms.items():
        for kind, file in row["files"].items():
            assert file["kB"] * 1000 == (tmp_path / f"{name}.{kind}.tflite").stat().st_size > 1000 * file["zip_kB"] > 0
            assert 0 <= file["accuracy"] <= 1
    measured = values(result.stdout)
    assert {"training step: qat / lsq8", "training step: pruning / lsq8", "latency: qat.int8 / lsq8"} <= set(measured)
    assert all(math.isfinite(value) and value > 0 for value in measured.values())
    again = benchmark(*flags, name="peers")
    assert again.returncode == 0 and again.stdout.splitlines()[-3:] == result.stdout.splitlines()[-3:]
    assert len((tmp_path / "peers.jsonl").read_text().splitlines()) == len(rows)
    other = benchmark(*flags, "--seed=1", name="peers")
    assert other.returncode == 1 and "--seed=1: " in other.stderr and "made with --seed=0" in other.stderr
