"""A training that is killed with SIGKILL at any moment, and repeated, ends as if it had never stopped."""

import os
import pathlib
import time

import numpy as np
import pytest

from tests import processes
from tfqnas.files import read_jsonl
from tfqnas.spaces import SearchSpace, Stage

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SPACE = SearchSpace(
    name="nano", resolutions=(8, 12), stem_channels=8, stages=(Stage(8, 2, (1, 2), (3, 5), (3, 4)),), head_channels=16
)
STEPS = 60


def command(directory, checkpoint_steps):
    epochs = STEPS * 8 / 1300
    return [
        ROOT / "tools" / "train.py",
        f"--run_dir={directory}",
        f"--space={directory.parent / 'nano.json'}",
        "--bits=4,3",
        "--batch_size=8",
        "--held_out=100",
        "--recalibration_images=64",
        "--largest_epochs=0",
        f"--supernet_epochs={epochs}",
        "--random_subnets=1",
        "--dropout=0.1",
        "--shift=0.1",
        f"--checkpoint_steps={checkpoint_steps}",
    ]


def start(directory, checkpoint_steps, output):
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return processes.Process(command(directory, checkpoint_steps), output, cwd=ROOT, env=variables)


def checkpoints(directory, stage):
    return sorted((directory / "checkpoints" / stage).glob("step-*.npz"))


def writing(directory, stage):
    """Whether a checkpoint is being written at this moment."""
    try:
        return any(".tfqnas" in name for name in os.listdir(directory / "checkpoints" / stage))
    except FileNotFoundError:
        return False


def test_killed_and_repeated_it_ends_with_the_weights_of_a_run_that_never_stopped(tmp_path):
    (tmp_path / "nano.json").write_text(SPACE.to_json())
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    log = open(tmp_path / "output.txt", "w+")  # noqa: SIM115  closed with the process

    def output():
        log.seek(0)
        return log.read()[-5000:]

    assert start(whole, 25, log).wait(timeout=300) == 0, output()

    # When to kill: before the first checkpoint, while one is written, before the second stage's first one, in
    # the midst of writing one there.
    first, second = "supernet_b4", "supernet_b3"
    moments = [
        lambda: (killed / "config.json").exists(),
        lambda: len(checkpoints(killed, first)) > 0 and writing(killed, first),
        lambda: (killed / "events" / second).exists() or (killed / "checkpoints" / second).exists(),
        lambda: writing(killed, second),
    ]
    survived = []
    for moment in moments:
        process = start(killed, 7, log)
        try:
            deadline = time.monotonic() + 300
            while not moment():
                assert process.poll() is None, f"ended before moment {len(survived) + 1}: {output()}"
                assert time.monotonic() < deadline, output()
                time.sleep(0.001)
            assert process.poll() is None, output()
        finally:
            process.kill()
        assert process.wait() == -9
        survived.append([len(checkpoints(killed, stage)) for stage in (first, second)])
    assert survived[0] == [0, 0] and survived[1][0] > 0 and survived[2][0] > 0
    assert start(killed, 7, log).wait(timeout=300) == 0, output()

    for stage in (first, second):
        last = [checkpoints(directory, stage)[-1] for directory in (whole, killed)]
        assert [path.name for path in last] == [f"step-{STEPS:08d}.npz"] * 2
        a, b = (dict(np.load(path)) for path in last)
        assert a.keys() == b.keys()
        for name in a.keys() - {"meta"}:  # its settings hold the directory and the interval
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    ends = [
        [(r["stage"], r["steps"], r["held_out"]) for r in read_jsonl(run / "log.jsonl") if r.get("event") == "finished"]
        for run in (whole, killed)
    ]
    assert ends[0] == ends[1]
    log.close()
