"""The examples: tuning a schedule, in this process with a score that is a formula, and once for good."""

import importlib
import json
import os
import pathlib
import signal
import socket
import sys
import time

import pytest

from tests import processes
from tfqnas.errors import TrainingDivergedError
from tfqnas.integrations.keras_tuner.remote import VARIABLES

ROOT = pathlib.Path(__file__).parents[1]
TOOL = ROOT / "examples/tune_schedule.py"
sys.path.insert(0, str(TOOL.parent))
tune_schedule = importlib.import_module("tune_schedule")
# keras-tuner asks for the current thread's name in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:(currentThread|getName):DeprecationWarning")
STAGE = {"channels": 8, "stride": 2, "depths": [1, 2], "kernels": [3], "expands": [3, 4]}
SPACE = {"name": "small", "resolutions": [12], "stem_channels": 8, "head_channels": 16, "stages": [STAGE]}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def flags(tmp_path):
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return [f"--directory={tmp_path}/tune", f"--space={tmp_path}/space.json", "--epochs=0.4"]


@pytest.fixture
def trained(monkeypatch):
    """The settings that a formula in the place of the training has been asked for; it is best at a rate of 0.05."""
    configs = []

    def score(self, run):
        configs.append(run.config)
        accuracy = 1 / (1 + abs(run.config.largest_learning_rate - 0.05))
        return {"held_out_accuracy": accuracy, "largest": accuracy, "smallest": accuracy}

    monkeypatch.setattr(tune_schedule.Schedule, "_trained", score)
    return configs


def scores(directory):
    return [json.loads(path.read_text())["score"] for path in sorted(directory.glob("keras_tuner/trial_*/trial.json"))]


def test_the_best_of_the_trials_is_shown_as_flags(flags, trained, tmp_path, capsys):
    tune_schedule.main([*flags, "--trials=3"])
    assert len(trained) == 3 and len(set(trained)) == 3
    best = min(trained, key=lambda config: abs(config.largest_learning_rate - 0.05))
    assert f"--largest_learning_rate={best.largest_learning_rate}" in capsys.readouterr().out.splitlines()[-1]
    assert all(c.largest_epochs + c.supernet_epochs[0] == pytest.approx(0.4) for c in trained)
    assert all(c.bits == (4,) and c.dataset == "digits" for c in trained)


def test_more_trials_go_on_with_those_that_are_there(flags, trained, tmp_path):
    tune_schedule.main([*flags, "--trials=2"])
    before = scores(tmp_path / "tune")
    tune_schedule.main([*flags, "--trials=3"])
    assert len(trained) == 3 and scores(tmp_path / "tune")[:2] == before


def test_a_trial_that_was_stopped_is_the_next_one_again(flags, trained, monkeypatch, tmp_path):
    whole = tune_schedule.Schedule._trained
    asked = []

    def stops(self, run):
        asked.append(run.config)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return whole(self, run)

    monkeypatch.setattr(tune_schedule.Schedule, "_trained", stops)
    with pytest.raises(SystemExit, match="the same command goes on"):
        tune_schedule.main([*flags, "--trials=2"])
    tune_schedule.main([*flags, "--trials=2"])
    assert asked[1] == asked[2] and len(asked) == 3  # in the same run directory, where its checkpoints are
    assert len(scores(tmp_path / "tune")) == 2


def test_a_rate_that_diverges_has_the_lowest_score(flags, monkeypatch, tmp_path):
    def diverges(run, progress):
        raise TrainingDivergedError("step 3: the loss is nan")

    monkeypatch.setattr(tune_schedule, "train", diverges)
    tune_schedule.main([*flags, "--trials=1"])
    assert scores(tmp_path / "tune") == [0.0]


def test_hparams_has_every_trial_with_its_settings_and_its_score(flags, trained, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util.tensor_util import make_ndarray

    tune_schedule.main([*flags, "--trials=2"])
    rates, found = {config.largest_learning_rate for config in trained}, {}
    for path in (tmp_path / "tune/events").iterdir():
        events = EventAccumulator(str(path))
        events.Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        assert {"largest_share", "warmup_epochs", "distillation_weight", "supernet_learning_rate"} < set(settings)
        (value,) = (float(make_ndarray(event.tensor_proto)) for event in events.Tensors("held_out_accuracy"))
        found[settings["largest_learning_rate"].number_value] = value
    assert set(found) == rates
    assert all(value == pytest.approx(1 / (1 + abs(rate - 0.05))) for rate, value in found.items())


def test_other_settings_in_the_same_directory_are_refused(flags, trained):
    tune_schedule.main([*flags, "--trials=1"])
    with pytest.raises(SystemExit, match=r"--held_out=200: .*settings.json was made with --held_out=300"):
        tune_schedule.main([*flags, "--trials=1", "--held_out=200"])
    with pytest.raises(SystemExit, match=r"--epochs=2.0: .* was made with --epochs=0.4"):
        tune_schedule.main([*flags[:2], "--epochs=2"])


def test_wrong_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        tune_schedule.main(["--trials=0"])
    assert "--trials: expected a number above 0, received 0" in capsys.readouterr().err


def test_half_of_keras_tuners_variables_are_refused(flags, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    with pytest.raises(SystemExit, match="KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT: expected"):
        tune_schedule.main(flags)


# -- as processes -----------------------------------------------------------------------------------------------------


def start(flags, output, **variables):
    return processes.Process([TOOL, *flags], output, env={**os.environ, **variables})


@pytest.mark.slow
def test_schedules_are_trained_and_a_kill_costs_only_what_was_not_saved(flags, tmp_path):
    with open(tmp_path / "first.txt", "w") as file:
        process = start([*flags, "--trials=2"], file)
    # The first stage of the first trial is done.
    while "supernet_b4" not in (output := (tmp_path / "first.txt").read_text()):
        assert process.poll() is None, output
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not list((tmp_path / "tune/runs").glob("*/score.json"))
    done = processes.run([TOOL, *flags, "--trials=2"])
    assert done.returncode == 0, done.stderr
    runs = list((tmp_path / "tune/runs").iterdir())
    assert len(runs) == 2  # the first one went on
    assert all(0 < json.loads((run / "score.json").read_text())["held_out_accuracy"] < 1 for run in runs)
    starts = [json.loads(line) for run in runs for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(record.get("event") == "finished" for record in starts) == 4  # two stages each, none of them twice
    assert len(list((tmp_path / "tune/events").iterdir())) == 2 and "the best is in" in done.stdout


@pytest.mark.slow
def test_a_chief_and_two_workers_share_the_trials(flags, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    names = ("chief", "worker0", "worker1")
    started = []
    for name in names:
        with open(tmp_path / f"{name}.txt", "w") as file:
            started.append(start([*flags, "--trials=3"], file, KERASTUNER_TUNER_ID=name, **address))
    codes = [process.wait(timeout=590) for process in started]
    outputs = {name: (tmp_path / f"{name}.txt").read_text() for name in names}
    assert codes == [0, 0, 0], outputs
    assert len(list((tmp_path / "tune/runs").glob("*/score.json"))) == 3
    assert "the best is in" in outputs["chief"] and all(0 < score < 1 for score in scores(tmp_path / "tune"))
