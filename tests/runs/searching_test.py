"""Searches of one supernet of a few training steps; what they find is of no interest, how they go on is."""

import csv
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest

from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl, write_json
from tfqnas.progress import Progress
from tfqnas.search import ParetoFront, Result
from tfqnas.search.directory import results_in
from tfqnas.search.latency import LatencyTable, pieces_of
from tfqnas.search.search_config import SearchConfig
from tfqnas.spaces import SearchSpace, Stage
from tfqnas.train.run_config import RunConfig
from tfqnas.train.stages import MIXED

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(
    name="nano",
    resolutions=(8, 12),
    stem_channels=8,
    head_channels=16,
    stages=(Stage(8, 2, (1, 2), (3, 5), (3, 4)), Stage(8, 1, (1, 2), (3, 5), (3, 4))),
)
COARSE = SearchConfig(search_bins=2, search_per_bin=6, search_rounds=1, search_per_skeleton=3)
EVOLVED = SearchConfig(search="nsga2", search_budget=30, search_population=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    directory = tmp_path_factory.mktemp("searched")
    (directory / "nano.json").write_text(SPACE.to_json())
    run = Run.create(
        RunConfig(
            run_dir=str(directory / "run"),
            space=str(directory / "nano.json"),
            bits=(3,),
            batch_size=20,
            held_out=300,
            recalibration_images=64,
            largest_epochs=0.0,
            supernet_epochs=(0.5,),
            supernet_learning_rate=(0.05,),
            random_subnets=1,
            dropout=0.0,
        )
    )
    train(run, run.costs.progress())
    return run


@pytest.fixture(scope="module")
def reference(run, tmp_path_factory):
    """`{search: (directory, front)}` of searches that nobody disturbed."""
    directory = tmp_path_factory.mktemp("reference")
    return {c.search: (directory / c.search, search(run, c, directory / c.search)) for c in (COARSE, EVOLVED)}


def search(run, config, directory, lines=None):
    from tfqnas.runs.searching import FrontSearch

    stream = io.StringIO()
    with Progress([("search", 1)], stream=stream, interval=0).part("search") as part:
        front = FrontSearch(run, config, 3, directory)(part, run.networks.supernet(3))
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
    monkeypatch.setattr("tfqnas.runs.searching.append_jsonl", lambda *_: pytest.fail("something was scored"))
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
    with pytest.raises(UserError, match=r"`max_kb`: expected at least [\d.]+, the smallest that space nano reaches"):
        search(run, dataclasses.replace(config, max_kb=0.1), tmp_path / "none")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"search": "grid"}, "search: expected one of ageing, coarse_to_fine, random, nsga2, received grid"),
        ({"objectives": ("accuracy",)}, "objectives: expected accuracy and at least one cost"),
        (
            {"objectives": ("accuracy", "joules")},
            r"objectives: expected accuracy and some of effective_mflops, .*, file_kB, latency "
            r"\(with `latency_table`\), npu_cycles \(with `latency_table` of an NPU\), received joules",
        ),
        ({"objectives": ("accuracy", "npu_cycles")}, "latency_table: expected the table of a device"),
        ({"max_latency_ms": 1.0}, "latency_table: expected the table of a device"),
        ({"workers": -1}, "workers: expected a whole number from 0 on, received -1"),
        ({"max_kb": -1.0}, "max_kb: expected a number from 0 on, received -1.0"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message, run, tmp_path):
    with pytest.raises(UserError, match=message):
        search(run, dataclasses.replace(EVOLVED, **changes), tmp_path)


def test_other_settings_are_another_search_that_reuses_all_full_scores(run, reference, tmp_path, monkeypatch):
    whole, front = reference["nsga2"]
    directory, models = tmp_path / "b3", run.directory / "models"
    shutil.copytree(whole, directory)
    write_json(directory / "models.json", [{"model": "b3_0", "file": "models/b3_0.keras"}])
    models.mkdir(exist_ok=True)
    (models / "b3_0.keras").write_text("of the first search")
    limit = sorted(record["costs"]["kB"] for record in read_jsonl(whole / "scored.jsonl"))[12]
    other = dataclasses.replace(EVOLVED, max_kb=limit, search_budget=20)
    lines = []
    found = search(run, other, directory, lines)

    full = [record for record in read_jsonl(whole / "scored.jsonl") if "estimated" not in record["extra"]]
    reused = read_jsonl(directory / "reused.jsonl")
    assert [r["arch"] for r in reused] == [r["arch"] for r in full if r["costs"]["kB"] <= limit] != []
    assert any(f"{len(reused)} scores of earlier searches of this supernet are reused" in line for line in lines)
    new = read_jsonl(directory / "scored.jsonl")
    assert len(new) == 20 and not any(record["arch"] in [r["arch"] for r in reused] for record in new)
    assert found == ParetoFront.of(
        [r for r in results_in(directory, run.space) if not r.estimated], ("effective_mflops",)
    )
    aside = tmp_path / "b3.1"
    assert scores(aside) == scores(whole) and ParetoFront.from_json(read_json(aside / "pareto.json")) == front
    assert (aside / "models/b3_0.keras").read_text() == "of the first search" and not (models / "b3_0.keras").exists()

    # Each command goes on with its own.
    monkeypatch.setattr("tfqnas.runs.searching.append_jsonl", lambda *_: pytest.fail("something was scored"))
    assert search(run, other, directory) == found
    assert search(run, EVOLVED, directory) == front
    assert scores(directory) == scores(whole) and (models / "b3_0.keras").read_text() == "of the first search"
    assert search(run, other, directory) == found
    assert sorted(path.name for path in tmp_path.glob("b3*")) == ["b3", "b3.1"]
    (aside / "models/b3_0.keras").unlink()


def test_a_search_set_aside_is_not_mixed_with_what_a_kill_has_left(run, reference, tmp_path):
    whole, front = reference["nsga2"]
    shutil.copytree(whole, tmp_path / "b3.1")
    (tmp_path / "b3").mkdir()
    (tmp_path / "b3" / "reused.jsonl").write_text("")  # killed before its settings were written
    assert search(run, EVOLVED, tmp_path / "b3") == front
    assert scores(tmp_path / "b3") == scores(whole)


@pytest.fixture
def table(run, tmp_path):
    """A latency table, which is measured anew with `again`."""
    values = {piece.key: 0.01 * (i % 7 + 1) for i, piece in enumerate(pieces_of(run.space))}
    made = LatencyTable(run.space, "a phone", "ms", 1, 4, 10, 1, "2026-11-26", values)
    path = tmp_path / "latency.json"
    path.write_text(made.to_json())
    return path, made


def test_a_table_of_another_content_is_another_search_wherever_it_is(run, table, tmp_path):
    path, made = table
    config = dataclasses.replace(EVOLVED, latency_table=str(path), objectives=("accuracy", "latency"), search_budget=12)
    front = search(run, config, tmp_path / "b3")
    assert front.by == ("latency_ms",)
    for row in front.rows:
        assert row.costs["latency_ms"] == pytest.approx(made.of(row.arch))
    moved = path.rename(tmp_path / "moved.json")
    lines = []
    assert search(run, dataclasses.replace(config, latency_table=str(moved)), tmp_path / "b3", lines) == front
    assert not any("other settings" in line for line in lines)
    moved.write_text(dataclasses.replace(made, factor=2.0).to_json())
    found = search(run, dataclasses.replace(config, latency_table=str(moved)), tmp_path / "b3", lines)
    assert any("was searched with other settings" in line for line in lines)
    results = results_in(tmp_path / "b3", run.space)
    assert all(r.costs["latency_ms"] == pytest.approx(2 * made.of(r.arch)) for r in (*results, *found.rows))


def test_what_the_table_predicts_goes_with_a_model(run, table, tmp_path):
    from tfqnas.runs.searching import FrontSearch

    path, made = table
    arch = run.space.largest()
    config = dataclasses.replace(EVOLVED, latency_table=str(path))
    assert FrontSearch(run, config, 3, tmp_path).predicted(arch) == {
        "predicted_latency_ms": made.of(arch),
        "latency_device": made.holds_for,
    }
    assert FrontSearch(run, EVOLVED, 3, tmp_path).predicted(arch) == {}
    with pytest.raises(UserError, match="`objectives`: npu_cycles needs another `latency_table`: .* is in ms"):
        FrontSearch(run, dataclasses.replace(config, objectives=("accuracy", "npu_cycles")), 3, tmp_path)
    with pytest.raises(UserError, match="`max_npu_cycles`: npu_cycles needs another `latency_table`"):
        FrontSearch(run, dataclasses.replace(config, max_npu_cycles=3.0), 3, tmp_path)


@pytest.mark.parametrize(
    "flag, cost", [("max_file_kb", "file_kB"), ("max_mbitops", "mbitops"), ("max_params", "params")]
)
def test_each_limit_holds_and_is_named_by_its_flag(flag, cost, run, tmp_path):
    from tfqnas.runs.searching import FrontSearch

    free = FrontSearch(run, dataclasses.replace(EVOLVED, objectives=("accuracy", cost)), 3, tmp_path)
    ends = [free.objectives.record(arch)[cost] for arch in (run.space.smallest(), run.space.largest())]
    limit = type(getattr(EVOLVED, flag))(sum(ends) / 2)
    limited = FrontSearch(run, dataclasses.replace(EVOLVED, **{flag: limit}), 3, tmp_path)
    archs = limited.searcher.ask(40)
    assert archs and all(limited.objectives.record(arch)[cost] <= limit for arch in archs)
    with pytest.raises(UserError, match=f"search of the 3-bit supernet: `{flag}`: expected at least [\\d.]+, the sma"):
        FrontSearch(run, dataclasses.replace(EVOLVED, **{flag: type(limit)(ends[0] / 2)}), 3, tmp_path)


def test_the_best_within_budgets_stand_first_and_in_lines_that_stay(run, tmp_path):
    lines = []
    search(run, EVOLVED, tmp_path, lines)
    shown = [line for line in lines if line.startswith("[1/1] search") and "subnets" in line]
    assert shown and all(re.match(r"\[1/1\] search +(\d+%|done in [\d:]+)  [\d.]+% at [\d.]+", line) for line in shown)
    kept = [line for line in lines if line.startswith("best after")]
    assert len(kept) == 10 and re.fullmatch(
        r"best after 30 subnets.*: ([\d.]+% at [\d.]+, ){2}[\d.]+% at [\d.]+ effective_mflops", kept[-1]
    )


def test_a_predictor_chooses_and_says_how_good_it_is(run, tmp_path):
    lines = []
    config = dataclasses.replace(EVOLVED, search_budget=60, search_screen=4)
    search(run, config, tmp_path, lines)
    assert any("accuracy predictor, trained on" in line and "Kendall tau" in line for line in lines)
    quality = read_json(tmp_path / "predictor.json")
    assert len(quality["predicted"]) == len(quality["measured"]) > 0
    records = read_jsonl(tmp_path / "scored.jsonl")
    assert len(records) == 60
    full = {record["accuracy"] for record in records if "estimated" not in record["extra"]}
    assert set(quality["measured"]) <= full


@pytest.fixture
def mixed_run(tmp_path, micro):
    from tfqnas.runs.run import Run

    space = dataclasses.replace(micro, weight_bits=(2, 4), input_bits=(2, 4))
    (tmp_path / "micro.json").write_text(space.to_json())
    return Run.create(RunConfig(run_dir=str(tmp_path / "run"), space=str(tmp_path / "micro.json"), float_epochs=1.0))


def test_costs_of_a_mixed_supernet_are_those_of_its_codes_and_a_latency_table_knows_no_bits(mixed_run, tmp_path):
    space = mixed_run.space.without_bits()
    values = {piece.key: 0.01 * (i % 7 + 1) for i, piece in enumerate(pieces_of(space))}
    made = LatencyTable(space, "a phone", "ms", 1, 4, 10, 1, "2026-11-26", values)
    (tmp_path / "latency.json").write_text(made.to_json())
    config = dataclasses.replace(
        EVOLVED, latency_table=str(tmp_path / "latency.json"), objectives=("accuracy", "latency", "kB")
    )
    found = _front_search(mixed_run, config, MIXED, tmp_path / "mixed")
    rng = np.random.default_rng(0)
    for arch in [mixed_run.space.largest(), *(mixed_run.space.sample(rng) for _ in range(5))]:
        record = found.objectives.record(arch)
        plain = dataclasses.replace(arch, bits=None)
        assert record["latency_ms"] == pytest.approx(made.of(plain)) == found.predicted(arch)["predicted_latency_ms"]
        assert record["kB"] == pytest.approx(mixed_run.costs.of(arch, MIXED)["kB"])
        assert record["file_kB"] > record["kB"]


def test_a_search_proposes_what_a_target_supports_and_reuses_no_other_scores(mixed_run, tmp_path):
    config = dataclasses.replace(EVOLVED, search_weight_bits=(4,), search_bits_by="")
    found = _front_search(mixed_run, config, MIXED, tmp_path / "mixed")
    archs = found.searcher.ask(10)
    assert all(weights == 4 for arch in archs for weights, _ in arch.bits)
    others = [Result(mixed_run.space.smallest(), 0.5, {}), Result(archs[0], 0.6, {})]
    assert [result.arch for result in found._fitting(others)] == [archs[0]]
    tied = _front_search(mixed_run, dataclasses.replace(EVOLVED, search_bits_by="block"), MIXED, tmp_path / "mixed")
    for arch in tied.searcher.ask(10):
        mixed_run.space.restricted(bits_by="block").validate(arch)
    with pytest.raises(UserError, match=r"`search_weight_bits`: .*3"):
        _front_search(mixed_run, dataclasses.replace(EVOLVED, search_weight_bits=(3,)), MIXED, tmp_path / "mixed")


def test_a_run_without_bit_widths_to_choose_has_none_to_restrict(run, tmp_path):
    with pytest.raises(UserError, match="`search_weight_bits`: expected a run whose space has bit widths to choose"):
        _front_search(run, dataclasses.replace(EVOLVED, search_weight_bits=(4,)), 3, tmp_path / "b3")


def _front_search(*arguments):
    from tfqnas.runs.searching import FrontSearch

    return FrontSearch(*arguments)
