"""A run directory and its models know on which images they were trained."""

import pytest

from tests.data.conftest import encoded_as, folder_of, smooth
from tfqnas.data.dataset import load
from tfqnas.errors import UserError
from tfqnas.runs.directory import RunDirectory
from tfqnas.runs.model_files import refuse_trained_on
from tfqnas.runs.networks import Networks
from tfqnas.train.run_config import RunConfig

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder_of({"cats": 6, "dogs": 6}, tmp_path / "photos")


def add_to(folder):
    for number in range(20):
        (folder / f"cats/new{number}.png").write_bytes(encoded_as(smooth(60 + number, 20, 24)))


@pytest.fixture
def config(folder, tmp_path):
    return RunConfig(dataset=str(folder), run_dir=str(tmp_path / "run"), batch_size=2, held_out=2)


def test_a_run_goes_on_with_the_images_with_which_it_began(config, folder, capsys):
    run = RunDirectory.create(config)
    steps = [run.steps(stage) for stage in run.stages]
    add_to(folder)
    for opened in (RunDirectory.create(config), RunDirectory.existing(config.run_dir)):
        assert [opened.steps(stage) for stage in opened.stages] == steps
        assert opened.dataset.record == run.dataset.record
        assert "20 images were added since the run began, and are left out" in capsys.readouterr().out
    (folder / "dogs/001.png").unlink()
    for opening in (RunDirectory.create, lambda config: RunDirectory.existing(config.run_dir).dataset):
        with pytest.raises(UserError, match=r"1 of the 12 images with which the run began are missing: dogs/001\.png"):
            opening(config)


def test_a_run_of_an_earlier_version_gets_its_record_when_it_is_trained_on(config, capsys):
    run = RunDirectory.create(config)
    record = run.data_record
    (run.directory / "data.json").unlink()
    assert RunDirectory.existing(config.run_dir).dataset.record == record
    assert not (run.directory / "data.json").exists()
    assert RunDirectory.create(config).data_record == record
    assert "has no record of its data yet, so they are recorded as they are now" in capsys.readouterr().out


def test_a_model_is_not_scored_on_images_that_its_run_was_trained_on(config, folder):
    run = RunDirectory.create(config)
    model = run.directory / "models/b4_largest.keras"
    refuse_trained_on(model, run.dataset)
    add_to(folder)
    with pytest.raises(UserError, match=r"of the \d+ test images are among those with which .*run trained"):
        refuse_trained_on(model, load(config, 1))
    refuse_trained_on(folder / "elsewhere/model.keras", load(config, 1))


def test_a_checkpoint_of_other_classes_or_beyond_the_steps_is_refused(config):
    run = RunDirectory.create(config)
    stage = run.stages[0]
    meta = run.about(stage)
    run.refuse_other(meta, "a.npz")
    for theirs, message in (
        (["dogs", "cats"], "the same classes in another order"),
        (["cats", "eels"], "other classes"),
    ):
        with pytest.raises(UserError, match=f"a.npz was trained on {message} than .*photos has, first"):
            run.refuse_other({**meta, "class_names": theirs}, "a.npz")
    run.refuse_other({name: value for name, value in meta.items() if name != "class_names"}, "older.npz")
    steps = run.steps(stage)
    with pytest.raises(UserError, match=rf"stands at step {steps + 1}, beyond the {steps} steps that its settings and"):
        Networks(run).assign([], ({}, {**meta, "step": steps + 1}), stage)
    Networks(run).assign([], ({}, {**meta, "step": steps}), stage)
