"""Searches of one supernet of a few training steps; what they find is of no interest, how they go on is."""

import csv
import dataclasses
import io
import json
import shutil

import pytest

from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl
from tfqnas.progress import Progress
from tfqnas.search import ParetoFront
from tfqnas.search.config import SearchConfig
from tfqnas.spaces import SearchSpace, Stage
from tfqnas.train.config import RunConfig

SPACE = SearchSpace(
    name="nano", resolutions=(8, 12), stem_channels=8, head_channels=16,
    stages=(Stage(8, 2, (1, 2), (3, 5), (3, 4)), Stage(8, 1, (1, 2), (3, 5), (3, 4))),
)  # fmt: skip
COARSE = SearchConfig(search_bins=2, search_per_bin=6, search_rounds=1, search_per_skeleton=3)
EVOLVED = SearchConfig(search="nsga2", search_budget=30, search_population=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tfqnas.train.run import Run
    from tfqnas.train.training import train

    directory = tmp_path_factory.mktemp("searched")
    (directory / "nano.json").write_text(SPACE.to_json())
    run = Run.create(RunConfig(
        run_dir=str(directory / "run"), space=str(directory / "nano.json"), bits=(3,), batch_size=20, held_out=300,
        recalibration_images=64, largest_epochs=0.0, supernet_epochs=(0.5,), supernet_learning_rate=(0.05,),
        random_subnets=1, dropout=0.0,
    ))  # fmt: skip
    train(run, run.progress())
    return run


@pytest.fixture(scope="module")
def reference(run, tmp_path_factory):
    """`{search: (directory, front)}` of searches that nobody disturbed."""
    directory = tmp_path_factory.mktemp("reference")
    return {c.search: (directory / c.search, search(run, c, directory / c.search)) for c in (COARSE, EVOLVED)}


def search(run, config, directory, lines=None):
    from tfqnas.searching import FrontSearch

    stream = io.StringIO()
    with Progress([("search", 1)], stream=stream, interval=0).part("search") as part:
        front = FrontSearch(run, config, 3, directory)(part, run.supernet(3))
    if lines is not None:
        lines += stream.getvalue().splitlines()
    return front


def scores(directory):
    return {json.dumps(record["arch"]): record["accuracy"] for record in read_jsonl(directory / "scored.jsonl")}


@pytest.mark.parametrize("config", [COARSE, EVOLVED], ids=lambda c: c.search)
def test_a_search_that_was_cut_off_ends_as_one_that_was_not(config, run, reference, tmp_path):
    whole, front = reference[config.search]
    shutil.copytree(whole, tmp_path / "cut")
    log = tmp_path / "cut" / "scored.jsonl"
    kept = log.read_text().splitlines(keepends=True)[:9]
    log.write_text("".join(kept)[:-20])  # the last line is damaged
    lines = []
    assert search(run, config, tmp_path / "cut", lines) == front
    assert scores(tmp_path / "cut") == scores(whole)
    assert any("scored.jsonl: line 9 is cut off or damaged, and left out" in line for line in lines)


def test_a_finished_search_is_repeated_in_no_time_and_scores_nothing(run, reference, monkeypatch):
    monkeypatch.setattr("tfqnas.searching.append_jsonl", lambda *_: pytest.fail("something was scored"))
    directory, front = reference["nsga2"]
    assert search(run, EVOLVED, directory) == front


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_processes(run, reference, tmp_path):
    whole, front = reference["nsga2"]
    found = search(run, dataclasses.replace(EVOLVED, workers=2), tmp_path)
    assert found == front and scores(tmp_path) == scores(whole)


def test_what_is_reported_was_shown_all_images(reference):
    for directory, front in reference.values():
        records = read_jsonl(directory / "scored.jsonl")
        assert all(row.extra == {"images": 300} for row in front.rows)
        assert all((record["extra"]["images"] < 300) == ("estimated" in record["extra"]) for record in records)


def test_the_front_is_written_as_json_and_as_a_table(reference):
    for directory, front in reference.values():
        assert ParetoFront.from_json(read_json(directory / "pareto.json")) == front
        rows = list(csv.DictReader((directory / "pareto.csv").read_text().splitlines()))
        assert [row["architecture"] for row in rows] == [row.arch.key for row in front.rows]
        assert [float(row["kB"]) for row in rows] == pytest.approx([row.costs["kB"] for row in front.rows])


def test_limits_hold_and_an_impossible_one_says_what_is_possible(run, reference, tmp_path):
    _, front = reference["nsga2"]
    limit = round(front.rows[0].costs["kB"] * 1.5, 3)
    config = dataclasses.replace(EVOLVED, max_kb=limit, objectives=("accuracy", "kB", "mbitops"))
    found = search(run, config, tmp_path)
    assert found.by == ("kB", "mbitops")
    assert all(record["costs"]["kB"] <= limit for record in read_jsonl(tmp_path / "scored.jsonl"))
    with pytest.raises(UserError, match=r"max kB: expected at least [\d.]+, the smallest that space nano reaches"):
        search(run, dataclasses.replace(config, max_kb=0.1), tmp_path / "none")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"search": "grid"}, "--search: expected one of coarse_to_fine, nsga2, ageing, random, received grid"),
        ({"objectives": ("accuracy",)}, "--objectives: expected accuracy and at least one cost"),
        ({"objectives": ("accuracy", "joules")}, "objectives: expected some of effective_mflops, .*received 'joules'"),
        ({"max_latency_ms": 1.0}, "--latency_table: expected the table of a device"),
        ({"workers": 0}, "--workers: expected a number from 1 on, received 0"),
        ({"max_kb": -1.0}, "--max_kb: expected a positive number"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message, run, tmp_path):
    with pytest.raises(UserError, match=message):
        search(run, dataclasses.replace(EVOLVED, **changes), tmp_path)


def test_other_settings_are_refused_in_the_same_directory(run, reference):
    directory, _ = reference["nsga2"]
    with pytest.raises(UserError, match="--search_seed=0, this search has --search_seed=1"):
        search(run, dataclasses.replace(EVOLVED, search_seed=1), directory)


def test_a_predictor_chooses_and_says_how_good_it_is(run, tmp_path):
    lines = []
    config = dataclasses.replace(EVOLVED, search_budget=60, search_screen=4)
    search(run, config, tmp_path, lines)
    assert any("accuracy predictor, trained on" in line and "Kendall tau" in line for line in lines)
    quality = read_json(tmp_path / "predictor.json")
    assert len(quality["predicted"]) == len(quality["measured"]) > 0
    assert len(read_jsonl(tmp_path / "scored.jsonl")) == 60
