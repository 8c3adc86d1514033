"""All analyses of one small run: what is there is not computed again, and a kill changes nothing."""

import dataclasses
import json
import shutil

import pytest

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.search.search_config import SearchConfig
from tfqnas.train.run_config import RunConfig

BATCH = 8
CONFIG = AnalysisConfig(
    subnets=6,
    alone=3,
    alone_epochs=4 * BATCH / 1300,
    float_supernet_epochs=3 * BATCH / 1300,
    float_supernet_learning_rate=0.1,
)
PICTURES = ["alone.png", "depth.png", "drop.png", "ranking.png", "transfer.png"]


@pytest.fixture(scope="module")
def space_file(micro, tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "micro.json"
    path.write_text(micro.to_json())
    return path


@pytest.fixture(scope="module")
def analysed(space_file, tmp_path_factory):
    """`(run directory, sections, settings)` of a searched run of one bit width, with all analyses."""
    from tfqnas.runs.analyses.analysing import analyse
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run
    from tfqnas.runs.training import train

    settings = RunConfig(
        run_dir=str(tmp_path_factory.mktemp("runs") / "micro"),
        space=str(space_file),
        bits=(3,),
        batch_size=BATCH,
        held_out=100,
        recalibration_images=64,
        largest_epochs=0.0,
        supernet_epochs=(4 * BATCH / 1300,),
        random_subnets=1,
        checkpoint_steps=2,
    )
    run = Run.create(settings)
    train(run, run.costs.progress())
    family = Family(run, SearchConfig(search_bins=2, search_per_bin=3, search_rounds=0))
    with family.progress().part("search_b3") as part:
        family.search(3, part)
    return run.directory, analyse(run, CONFIG), settings


@pytest.fixture
def copied(analysed, tmp_path):
    """The run directory, to be changed."""
    shutil.copytree(analysed[0], tmp_path / "copy")
    return tmp_path / "copy"


def results(directory):
    """Bytes of all results and pictures by name."""
    return {path.name: path.read_bytes() for path in (directory / "analysis").glob("*.*") if path.suffix != ".jsonl"}


@pytest.mark.slow
def test_every_analysis_has_numbers_a_picture_and_a_section(analysed):
    from tfqnas.runs.analyses.analysing import in_text, sections
    from tfqnas.runs.run import Run

    directory, made, _ = analysed
    names = results(directory)
    assert sorted(name for name in names if name.endswith("png")) == PICTURES
    assert [section.heading for section in sections(Run.existing(directory))] == [section.heading for section in made]
    text = in_text(made)
    assert all(words in text for words in ("float", "3 bits", "deep-slim more", "Kendall's tau", "trained alone"))
    assert "no float supernet" not in text
    (panel,) = read_json(directory / "analysis" / "transfer.json")
    assert (panel["bits"], panel["moved"][0]["source"]) == (3, None) and "test_error" in panel["moved"][0]["gain"]
    ranking = read_json(directory / "analysis" / "ranking.json")
    assert [len(record["accuracies"]) for record in ranking["supernets"]] == [6, 6]


@pytest.mark.slow
def test_scores_are_those_of_the_run(analysed):
    from tfqnas.runs.run import Run

    run = Run.existing(analysed[0])
    supernet = run.networks.supernet(3)
    for split in ("held_out", "test"):
        for record in read_jsonl(run.directory / "analysis" / "scores" / f"b3_{split}.jsonl")[:2]:
            arch = Arch.from_json(record["arch"])
            assert record["accuracy"] == pytest.approx(run.evaluator.accuracy(supernet, arch, split))


@pytest.mark.slow
def test_after_a_kill_only_what_is_missing_is_computed_and_the_results_are_the_same(analysed, copied, monkeypatch):
    from tfqnas.runs.analyses import analysing, supernets
    from tfqnas.runs.run import Run

    expected, directory = results(copied), copied / "analysis"
    for name in expected:
        (directory / name).unlink()
    scores = directory / "scores" / "b3_held_out.jsonl"
    lines = scores.read_text().splitlines()
    scores.write_text("\n".join([*lines[:5], lines[5][:50]]))
    (*kept, last) = [json.loads(line) for line in (directory / "alone.jsonl").read_text().splitlines()]
    (directory / "alone.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept))
    (newest,) = (directory / "alone").glob(f"*/*{_key(last)}/checkpoints/*/step-00000004.npz")
    newest.unlink()

    computed = []
    keep = supernets.Supernets.keep
    monkeypatch.setattr(supernets.Supernets, "keep", lambda *args: computed.append(args) or keep(*args))
    analysing.analyse(Run.existing(copied), CONFIG)
    assert len(computed) == len(lines) - 5
    assert results(copied) == expected
    assert read_jsonl(directory / "alone.jsonl") == [*kept, last]  # from the middle of its training, bit by bit

    computed.clear()
    analysing.analyse(Run.existing(copied), CONFIG)
    assert not computed and len(read_jsonl(directory / "alone.jsonl")) == 3


def _key(record):
    return Arch.from_json(record["arch"]).key


@pytest.mark.slow
def test_a_float_supernet_comes_to_a_finished_run_and_stays(analysed, copied):
    from tfqnas.runs.run import Run

    settings = dataclasses.replace(analysed[2], run_dir=str(copied))
    run = Run.create(settings)  # the command that began the run
    assert [stage.name for stage in run.stages] == ["supernet_b3", "supernet_float"]
    assert all(run.networks.finished(stage) for stage in run.stages)
    assert run.networks.supernet(None).bits is None and run.networks.supernet(3).bits == 3
    other = dataclasses.replace(settings, float_supernet_epochs=1.0)
    with pytest.raises(UserError, match=r"supernet_float was made with `float_supernet_epochs=0\.018.*`, this command"):
        Run.create(other)
    shutil.rmtree(copied / "checkpoints" / "supernet_float")
    assert Run.create(other).config.float_supernet_epochs == 1.0


@pytest.mark.slow
def test_the_report_shows_what_was_analysed(analysed, copied):
    from tfqnas.runs.family import Family
    from tfqnas.runs.run import Run

    (copied / "search" / "b3" / "models.json").write_text("[]")
    Family(Run.existing(copied), SearchConfig()).report()
    page = (copied / "report.html").read_text()
    assert all(section.heading in page for section in analysed[1])


@pytest.mark.slow
def test_what_cannot_be_made_is_left_out_or_refused_by_name(copied):
    from tfqnas.runs.analyses.analysing import analyse
    from tfqnas.runs.run import Run

    shutil.rmtree(copied / "search")
    shutil.rmtree(copied / "analysis" / "alone")
    run = Run.existing(copied)
    with pytest.raises(UserError, match="`only=transfer`: fewer than two fronts: run tfqnas search"):
        analyse(run, dataclasses.replace(CONFIG, only=("transfer", "drop")))
    made = analyse(run, dataclasses.replace(CONFIG, alone=0))
    assert [section.heading for section in made] == [
        "Shallow and fat, or deep and slim",
        "Do the bit widths rank alike?",
    ]
    with pytest.raises(UserError, match="`only=alone`: `alone` says how many"):
        analyse(run, dataclasses.replace(CONFIG, only=("alone",), alone=0))
