"""The PNG files."""

import random
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from tfqnas import report
from tfqnas.report import figures


def scored(bits, n=60, low=0.3, high=6.0, top=0.99):
    rng = random.Random(bits)
    records, best = [], -1.0
    for mflops in sorted(rng.uniform(low, high) for _ in range(n)):
        accuracy = top - 0.05 / mflops - abs(rng.gauss(0, 0.01))
        records.append({"effective_mflops": mflops, "accuracy": accuracy, "on_front": accuracy > best})
        best = max(best, accuracy)
    return records


def log(stages, per_stage=20, restart=True):
    values = {"loss": 1.0, "accuracy": 0.5, "learning_rate": 0.1}
    return [
        {"stage": stage, "step": step + (0 if restart else i * per_stage), **values}
        for i, stage in enumerate(stages)
        for step in range(1, per_stage + 1)
    ]


@pytest.mark.parametrize(
    "groups",
    [
        {4: scored(4), 3: scored(3), 2: scored(2)},
        {"LSQ, 4 bits": scored(4, n=1), 3: []},
        {4: [{"effective_mflops": 1.0, "accuracy": 0.5, "on_front": False}]},
        {bits: scored(bits, low=1.0, high=3.0) for bits in range(2, 9)},  # more than there are colours
    ],
    ids=["family", "one subnet", "no front", "seven groups"],
)
def test_a_pareto_figure_is_a_picture_with_content(tmp_path, groups):
    path = report.pareto_figure(groups, tmp_path / "figures" / "pareto.png", "Title", "digits")
    image = matplotlib.image.imread(path)
    assert image.shape[0] > 500 and image.shape[1] > 800
    assert np.mean(image[..., :3].min(axis=-1) < 0.9) > 0.005  # not white
    assert [p.name for p in path.parent.iterdir()] == ["pareto.png"]


@pytest.mark.parametrize("wrong", [97.1, -0.1, float("nan")])
def test_an_accuracy_that_is_no_fraction_is_refused(tmp_path, wrong):
    record = {"effective_mflops": 1.0, "accuracy": wrong, "on_front": True}
    with pytest.raises(ValueError, match="4 bits: accuracy is|4: accuracy is"):
        report.pareto_figure({4: [record]}, tmp_path / "a.png", "t", "d")


def test_a_figure_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no scored subnets"):
        report.pareto_figure({4: []}, tmp_path / "a.png", "t", "d")
    with pytest.raises(ValueError, match="no record"):
        report.training_figure([{"step": 1}], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("restart", [True, False])
def test_stages_follow_each_other_whether_or_not_their_steps_restart(restart):
    records = log(["biggest", "supernet"], restart=restart)
    stages = figures._stages(records)
    assert [(stage, points[0][0], points[-1][0]) for stage, points in stages] == [
        ("biggest", 1, 20),
        ("supernet", 21, 40),
    ]


def test_a_training_figure_is_made_of_records_that_lack_some_values(tmp_path):
    records = [*log(["a", "b"]), {"stage": "c", "step": 0, "loss": 1.0}, {"stage": "c", "step": 1, "accuracy": None}]
    assert report.training_figure(records, tmp_path / "a.png").stat().st_size > 10_000


def test_steps_repeated_after_a_kill_count_once():
    records = [
        *log(["a"], per_stage=10),
        {"stage": "a", "step": 8, "loss": 2.0},
        {"stage": "a", "step": 9, "loss": 3.0},
    ]
    ((_, points),) = figures._stages(records)
    assert [x for x, _ in points] == list(range(1, 11))
    assert points[7][1]["loss"] == 2.0


def test_matplotlib_is_loaded_on_use_only():
    code = "import sys, tfqnas.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_dots_figure_shows_every_value(tmp_path):
    rows = [("inherit, 4 epochs", [88.1, 88.9], True), ("direct, 4 epochs", [80.0], False)]
    path = report.dots_figure({"3 bits": rows, "2 bits": rows[:1]}, tmp_path / "dots.png", "Title", "test accuracy, %")
    image = matplotlib.image.imread(path)
    assert np.mean(image[..., :3].min(axis=-1) < 0.9) > 0.005
    with pytest.raises(ValueError, match="no values"):
        report.dots_figure({"3 bits": []}, tmp_path / "a.png", "t", "a")
