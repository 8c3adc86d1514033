"""The studies as programs, in their short forms; each says where its results are."""

import functools
import json
import math
import pathlib
import re

import pytest

from tests.benchmarks_test import benchmark, values

ROOT = pathlib.Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.py"))
study = functools.partial(benchmark, directory="studies")


@pytest.mark.parametrize("path", [path for path in STUDIES if "__main__" in path.read_text()], ids=lambda p: p.stem)
def test_a_study_names_the_page_of_its_results_which_names_it(path):
    (page,) = re.findall(r"^Results: (docs/[\w/]+\.md)[ .]", path.read_text(), re.M)
    assert f"studies/{path.name}" in (ROOT / page).read_text()


@pytest.mark.slow
def test_the_short_form_compares_a_mixture_of_quantizers_with_one():
    result = study("--short", name="dqss")
    assert result.returncode == 0, result.stderr[-4000:]
    measured = values(result.stdout)
    assert {"mixed / LSQ", "LSQ / float", "mixed / every pair", "memory: mixed / LSQ"} <= measured.keys()
    assert all(math.isfinite(value) and value > 0 for value in measured.values())


@pytest.mark.slow
def test_a_study_compares_inheritance_with_direct_training_and_goes_on_where_it_stopped(tmp_path):
    flags = [
        f"--run_dir={tmp_path}/study",
        "--dataset=digits",
        "--held_out=1200",
        "--bits=4,3",
        "--batch_size=50",
        "--recalibration_images=100",
        "--float_epochs=1",
        "--supernet_epochs=0.5",
        "--evaluation_epochs=0.25",
        "--seeds=0",
        "--rates=0.05",
        "--ways=inherit,direct_own",
        "--workers=2",
    ]
    result = study(*flags, name="inheritance")
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    rows = json.loads((tmp_path / "study/study.json").read_text())
    assert [(row["arm"], row["epochs"], len(row["test"])) for row in rows] == [
        ("b4", 0.5, 1),
        ("inherit_b3", 0.5, 1),
        ("direct_own_b3", 0.5, 1),
    ]
    assert all(0 <= value <= 1 for row in rows for key in ("before", "one_epoch", "held_out") for value in row[key])
    assert (tmp_path / "study/study.png").stat().st_size > 10_000
    assert "| 3 | inherit | 0.5 | 0.05 |" in result.stdout
    again = study(*flags, name="inheritance")
    assert again.returncode == 0 and "held-out," not in again.stdout  # nothing was trained anew
    other = study(*flags, "--rates=0.1", name="inheritance")
    assert other.returncode == 1 and "was made with --rates=0.05, this study has --rates=0.1" in other.stderr


@pytest.mark.slow
def test_the_short_form_compares_strategies_and_computes_nothing_twice(tmp_path):
    flags = ["classification", "--short", "--bits=4", f"--results={tmp_path}/s.jsonl", f"--figure={tmp_path}/s.png"]
    result = study(*flags, name="strategies")
    assert result.returncode == 0, result.stderr[-4000:]
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [(row["strategy"], row["bits"]) for row in rows] == [("float", 32), ("dqss", 4), ("lsq", 4)]
    assert all(0 <= row["figures"]["accuracy"] <= 1 for row in rows)
    assert "| tiny | ptq | 4 | dqss |  | 1 |" in result.stdout and (tmp_path / "s.png").stat().st_size > 5_000
    again = study(*flags, name="strategies")
    assert again.returncode == 0 and len((tmp_path / "s.jsonl").read_text().splitlines()) == 3


@pytest.mark.tensorflow
def test_unknown_strategies_of_a_study_are_refused():
    result = study("classification", "--strategies=dqss,lunch", name="strategies")
    assert result.returncode == 2
    assert "--strategies: expected some of dqss,lsq" in result.stderr and "received lunch" in result.stderr
