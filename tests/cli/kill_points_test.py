"""A command that is killed with SIGKILL at any of its writes, or at any time, ends as if it had never been killed.

It is given again after each kill.
"""

import re
import shutil

import keras
import numpy as np
import pytest

from tests import processes
from tests.cli.calls import ROOT
from tfqnas import locks
from tfqnas.files import read_jsonl
from tfqnas.runs.model_files import load_model
from tfqnas.spaces import SearchSpace, Stage

pytestmark = pytest.mark.slow

# Runs a command that kills itself at the n-th call that makes a write last; 0 never does.
KILLED = """
import os, signal, sys
from tfqnas.cli import main
left = int(sys.argv[1])
def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
os.fsync, os.replace = counted(os.fsync), counted(os.replace)
sys.argv[:] = ["tfqnas", *sys.argv[2:]]
main.main()
"""


# Runs a command that kills itself at its n-th event of Python's audit, such as an opened file or an import; with 0 it
# says at its end how many there were.
KILLED_AT_ANY_TIME = """
import atexit, os, signal, sys
number, count = int(sys.argv[1]), 0
def hook(event, arguments):
    global count
    count += 1
    if count == number:
        os.kill(os.getpid(), signal.SIGKILL)
if not number:
    atexit.register(lambda: print(f"{count} events", file=sys.stderr))
sys.addaudithook(hook)
from tfqnas.cli import main
sys.argv[:] = ["tfqnas", *sys.argv[2:]]
main.main()
"""
RANDOM = 5  # kills of each command


def counted(*command):
    """Gives a command, and returns the number of its events."""
    done = processes.run(["-c", KILLED_AT_ANY_TIME, "0", *map(str, command)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return int(re.search(r"(\d+) events", done.stderr)[1])


def kill_at_random(seed, events, *command):
    """Gives a command of so many events, killed at random ones, and then to its end."""
    killed = 0
    # Each kill leaves less to do, so later ones come earlier.
    for number in (np.random.default_rng(seed).random(RANDOM) * events / np.arange(1, RANDOM + 1)).astype(int) + 1:
        done = processes.run(["-c", KILLED_AT_ANY_TIME, str(number), *map(str, command)], cwd=ROOT)
        assert done.returncode in (-9, 0), done.stderr
        killed += done.returncode == -9
    assert killed >= RANDOM - 1
    done = run(0, *command)
    assert done.returncode == 0, done.stderr


def run(number, *command):
    return processes.run(["-c", KILLED, str(number), *map(str, command)], cwd=ROOT)


def kill_everywhere(*command):
    """Gives a command until it ends, killed at its first write, then at its second one, and so on."""
    number = 0
    while True:
        number += 1
        done = run(number, *command)
        if done.returncode != -9:
            assert done.returncode == 0, done.stderr
            return number - 1


def files(directory):
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def assert_same(one, other, but=()):
    """Asserts that two directories hold the same, and nothing temporary; archives may differ in their dates."""
    theirs, ours = files(one), files(other)
    assert ours.keys() == theirs.keys()
    for name, path in ours.items():
        assert locks.target_of(path.name) is None and not path.name.endswith(".lock")
        if path.suffix == ".keras":
            a, b = (load_model(p).get_weights() for p in (path, theirs[name]))
            for left, right in zip(a, b, strict=True):
                np.testing.assert_array_equal(left, right, err_msg=name)
        elif path.suffix == ".npz":
            with np.load(path) as a, np.load(theirs[name]) as b:
                for key in set(a.files) - {"meta"}:  # its settings hold the directory
                    np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name}: {key}")
        elif name not in but:
            assert path.read_bytes() == theirs[name].read_bytes(), name


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
    ]
    path = tmp_path_factory.mktemp("models") / "float.keras"
    keras.Sequential([*layers, keras.layers.Dense(10)], name="small").save(path)
    return path


def results(seed, directory, *command):
    """The result of a command in `directory`, those after kills at its writes and at random; how many writes it has."""
    events = counted(*command)
    whole = directory.rename(directory.with_name("whole"))
    writes = kill_everywhere(*command)
    at_writes = directory.rename(directory.with_name("at_writes"))
    kill_at_random(seed, events, *command)
    return whole, at_writes, directory, writes


def test_quantize(model_file, tmp_path):
    options = ["--batch_size=16", "--steps=2", "--tune_steps=1", "--images=32", "--weights=lsq", "--inputs=lsq"]
    command = ["quantize", f"--model={model_file}", "--dataset=digits", f"--output={tmp_path / 'out'}", *options]
    whole, *others, writes = results(0, tmp_path / "out", *command)
    assert writes >= 10
    for other in others:
        assert_same(whole, other, but=["strategies.svg"])  # matplotlib numbers at random


def test_export(model_file, tmp_path):
    options = ["--noverify", "--calibration_images=32", f"--output={tmp_path / 'out' / 'm.tflite'}"]
    command = ["export", f"--model={model_file}", "--dataset=digits", *options]
    whole, *others, writes = results(1, tmp_path / "out", *command)
    assert writes == 4
    for other in others:
        assert_same(whole, other)


def test_train(tmp_path):
    stages = (Stage(8, 2, (1,), (3,), (3,)),)
    space = SearchSpace(name="nano", resolutions=(8,), stem_channels=8, stages=stages, head_channels=16)
    (tmp_path / "nano.json").write_text(space.to_json())
    options = ["--bits=4", "--batch_size=8", "--held_out=100", "--recalibration_images=64", "--largest_epochs=0"]
    options += [f"--supernet_epochs={4 * 8 / 1300}", "--random_subnets=0", "--checkpoint_steps=2"]
    command = ["train", f"--run_dir={tmp_path / 'out'}", f"--space={tmp_path / 'nano.json'}", *options]
    whole, *others, writes = results(2, tmp_path / "out", *command)
    assert writes >= 6
    for directory in (whole, *others):
        shutil.rmtree(directory / "events")
    for other in others:
        assert_same(whole, other, but=["log.jsonl"])  # both say what happened when


def test_latency_table(tmp_path):
    stages = (Stage(8, 2, (1,), (3,), (3,)), Stage(8, 2, (1,), (3, 5), (3, 4)))
    space = SearchSpace(name="nano", resolutions=(8,), stem_channels=8, stages=stages, head_channels=16)
    (tmp_path / "nano.json").write_text(space.to_json())
    options = [
        "--classes=10",
        "--channels=1",
        "--rounds=2",
        "--seconds=0.001",
        "--fit_models=2",
        "--validation_models=2",
    ]
    command = [
        "latency-table",
        f"--space={tmp_path / 'nano.json'}",
        f"--output={tmp_path / 'out' / 't.json'}",
        *options,
    ]
    assert kill_everywhere(*command) == 2
    kept = read_jsonl(tmp_path / "out" / "t.jsonl")[1:]
    assert len({(record["name"], record["round"]) for record in kept}) == len(kept)  # none is measured twice
    assert sorted(files(tmp_path / "out")) == ["t.json", "t.jsonl"]


def test_search(tmp_path):
    stages = (Stage(8, 2, (1, 2), (3, 5), (3, 4)),)
    space = SearchSpace(name="nano", resolutions=(8, 12), stem_channels=8, stages=stages, head_channels=16)
    (tmp_path / "nano.json").write_text(space.to_json())
    trained, out = tmp_path / "trained", tmp_path / "out"
    options = ["--bits=4", "--batch_size=8", "--held_out=100", "--recalibration_images=64", "--largest_epochs=0"]
    options += [f"--space={tmp_path / 'nano.json'}", f"--supernet_epochs={4 * 8 / 1300}", "--random_subnets=0"]
    assert run(0, "train", f"--run_dir={trained}", *options).returncode == 0
    command = ["search", f"--run_dir={out}", "--search=ageing", "--search_budget=4", "--search_population=3"]
    command += ["--models=1"]
    shutil.copytree(trained, out)
    events = counted(*command)
    whole = out.rename(tmp_path / "whole")
    shutil.copytree(trained, out)
    kill_at_random(3, events, *command)
    assert_same(whole, out.rename(tmp_path / "at_random"), but=["search/b4/models.json"])  # with measured milliseconds
    shutil.copytree(trained, out)
    for number in (1, 2, 3, 6, 9, 13, 18, 22):
        assert run(number, *command).returncode == -9
    assert run(0, *command).returncode == 0
    assert_same(whole, out, but=["search/b4/models.json"])
