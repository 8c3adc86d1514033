"""tf.distribute: devices are fixed before TensorFlow starts, so every test has processes of its own.

Run as a script this file is what those processes do: `distribution_test.py mirrored` or `... worker DIRECTORY`.
"""

import dataclasses
import json
import os
import pathlib
import socket
import sys
import tempfile
import time

import numpy as np
import pytest

from tfqnas.spaces import SearchSpace, Stage
from tfqnas.train.run_config import RunConfig

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SPACE = SearchSpace(
    name="nano", resolutions=(8, 12), stem_channels=8, stages=(Stage(8, 2, (1, 2), (3, 5), (3, 4)),), head_channels=16
)
STEPS = 2
BATCH = 8


def settings(**changes):
    return RunConfig(
        bits=(4, 3),
        batch_size=BATCH,
        largest_epochs=0,
        supernet_epochs=(STEPS * BATCH / 1300,),
        held_out=100,
        supernet_learning_rate=(0.05,),
        recalibration_images=64,
        random_subnets=1,
        dropout=0.2,
        **changes,
    )


def ran(command, environment=()):
    """`(process, the file of its output)`."""
    from tests import processes  # not at the top: this file is also the program that the processes run

    output = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by `finish`
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **dict(environment)}
    return processes.Process(command, output, cwd=ROOT, env=variables), output


def finish(started):
    """The outputs of the processes, which must all end well; none is left behind."""
    texts = []
    try:
        for process, _ in started:
            process.wait(timeout=600)
    finally:
        for process, output in started:
            process.kill()
            process.wait()
            output.seek(0)
            texts.append(output.read())
            output.close()
    for (process, _), text in zip(started, texts, strict=True):
        assert process.returncode == 0, text[-6000:]
    return texts


@pytest.mark.parametrize("kind", ["uniform", "mixed"])
def test_mirrored_update_is_that_of_the_mean_of_the_halves_gradients(kind):
    differences = json.loads(finish([ran([__file__, "mirrored", kind])])[0].splitlines()[-1])
    assert differences["moved"] > 1e-3
    assert differences["replicas"] == 0
    assert differences["batches"] == 0
    # The sums of the two halves are rounded in another order: the first update differs by 1e-7. In the second step
    # a value beside a rounding threshold of its quantizer may then fall to the other side, which moves a few weights
    # by another 1e-5. An update that is not the mean of both gradients differs by as much as it moves.
    assert differences["first_weights"] < 2e-6
    assert differences["first_losses"] < 2e-6
    assert differences["weights"] < 1e-3 * differences["moved"]
    assert differences["losses"] < 1e-3


def test_two_workers_train_to_equal_weights_and_the_first_alone_writes(tmp_path):
    (tmp_path / "nano.json").write_text(SPACE.to_json())
    ports = free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = []
    for i in range(2):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
        workers.append(ran([__file__, "worker", str(tmp_path)], {"TF_CONFIG": config}))
    finish(workers)
    first, second = (dict(np.load(tmp_path / f"weights{i}.npz")) for i in range(2))
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    assert json.loads((tmp_path / "writes.json").read_text()) == [True, False]
    # Both stages are there once, and the second began where the first one ended.
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["stage"] for r in log if r.get("event") == "finished"] == ["supernet_b4", "supernet_b3"]
    assert len(list((tmp_path / "run" / "events" / "supernet_b4").iterdir())) == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_worker_is_killed_the_other_ends_with_its_name_and_the_same_command_goes_on(tmp_path, victim):
    (tmp_path / "nano.json").write_text(SPACE.to_json())
    ports = free_ports(2)
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    command = [
        ROOT / "tools" / "train.py",
        f"--run_dir={tmp_path / 'run'}",
        f"--space={tmp_path / 'nano.json'}",
        "--bits=4",
        "--batch_size=8",
        "--held_out=100",
        "--recalibration_images=64",
        "--largest_epochs=0",
        "--supernet_epochs=1000",
        "--random_subnets=0",
        "--checkpoint_steps=5",
        "--distribution=multiworker",
    ]
    started = []
    try:
        for i in range(2):
            config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
            started.append(ran(command, {"TF_CONFIG": config}))
        while not list((tmp_path / "run" / "checkpoints").glob("*/step-*.npz")):
            assert all(process.poll() is None for process, _ in started)
            time.sleep(0.1)
        started[victim][0].kill()
        survivor, output = started[1 - victim]
        assert survivor.wait(timeout=120) == 1
        output.seek(0)
        lines = output.read().splitlines()
    finally:
        for process, output in started:
            process.kill()
            process.wait()
            output.close()
    assert not [line for line in lines if "Traceback" in line]
    assert lines[-1].startswith(f"error: worker {victim} at 127.0.0.1:{ports[victim]} has ended or cannot be reached")
    assert "goes on from the last checkpoint" in lines[-1]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


# What the processes do ---------------------------------------------------------------------------------------


def mirrored(kind):
    import keras
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from tfqnas.runs.training import make_strategy

    keras.utils.set_random_seed(0)
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    from tfqnas import LSQ, Supernet, initialize
    from tfqnas.data.splits import Arrays
    from tfqnas.quantizers import BatchQuant, ByBits
    from tfqnas.train.loop import Trainer

    rng = np.random.default_rng(0)
    split = Arrays(rng.integers(0, 256, (40, 12, 12, 1)).astype(np.uint8), rng.integers(0, 10, 40).astype(np.int32))
    space, quantizers = SPACE, {"weights": LSQ(bits=4), "inputs": LSQ(bits=4, signed=False)}
    if kind == "mixed":  # with floating point: a conditional in a conditional
        choices = (2, 4, 32)
        space = dataclasses.replace(SPACE, weight_bits=choices, input_bits=choices)
        quantizers = {"weights": ByBits(LSQ(bits=4), choices), "inputs": ByBits(BatchQuant(bits=4), choices)}

    def trainer(strategy=None):
        with (strategy or tf.distribute.get_strategy()).scope():
            supernet = Supernet(space, num_classes=10, channels=1, dropout=0.2, **quantizers)
            initialize(supernet, rng.normal(size=(4, 12, 12, 1)).astype(np.float32))
            return Trainer(supernet, settings(), strategy)

    two, one = trainer(strategy), trainer()
    for target, source in zip(one.supernet.variables, two.supernet.variables, strict=True):
        target.assign(source.numpy())
    began = [v.numpy() for v in one.supernet.variables]
    archs = [space.largest(), space.smallest(), space.sample(rng)]
    weights = [0.0, 1.0, 0.5]
    batches, whole = (t._batches(split, 7, 0, STEPS) for t in (two, one))
    gradients = tf.function(one.gradients, autograph=False)
    difference = {"batches": 0.0, "losses": 0.0}
    for step in range(STEPS):  # two steps: the second has momentum
        batch, (x, y) = next(batches), next(whole)
        halves = [strategy.experimental_local_results(part) for part in batch]
        difference["batches"] += float(np.max(np.abs(np.concatenate(halves[0]) - x)))
        result = two.run_step(batch, archs, weights, (3, step), 0.05)
        one.optimizer.learning_rate.assign(0.05)
        subnets = one._padded(archs, weights)
        parts = []
        for replica in range(2):
            half = slice(replica * BATCH // 2, (replica + 1) * BATCH // 2)
            parts.append(gradients(x[half], y[half], *subnets, tf.constant([3, step + replica], tf.int32)))
        (a, losses_a, _), (b, losses_b, _) = parts
        variables = one.supernet.trainable_variables
        decay = [one.config.weight_decay * v.path.endswith("kernel") for v in variables]
        mean = [(g + h) / 2 + d * v for g, h, d, v in zip(a, b, decay, variables, strict=True)]
        one.optimizer.apply(mean, variables)
        apart = np.abs((losses_a + losses_b) / 2 - result.losses)
        difference["losses"] = max(difference["losses"], float(np.max(apart)))
        pairs = list(zip(one.supernet.variables, two.supernet.variables, strict=True))
        difference["weights"] = max(float(np.max(np.abs(a.numpy() - b.numpy()))) for a, b in pairs)
        if step == 0:
            difference |= {f"first_{what}": difference[what] for what in ("weights", "losses")}
    difference["moved"] = max(float(np.max(np.abs(a - v.numpy()))) for a, (v, _) in zip(began, pairs, strict=True))
    copies = [strategy.experimental_local_results(v.value) for v in two.supernet.variables]
    difference["replicas"] = max(float(np.max(np.abs(a.numpy() - b.numpy()))) for a, b in copies)
    print(json.dumps(difference))


def worker(directory):
    import keras

    from tfqnas.runs import training
    from tfqnas.runs.run import Run
    from tfqnas.train.cluster import of_environment

    cluster = of_environment("multiworker")
    strategy = training.make_strategy("multiworker", cluster)
    assert strategy.num_replicas_in_sync == 2
    trainers = []

    class Recorded(training.Trainer):
        def __init__(self, *args):
            super().__init__(*args)
            trainers.append(self)

    training.Trainer = Recorded
    keras.utils.set_random_seed(json.loads(os.environ["TF_CONFIG"])["task"]["index"])  # workers must not rely on it
    directory = pathlib.Path(directory)
    config = settings(run_dir=str(directory / "run"), space=str(directory / "nano.json"), distribution="multiworker")
    run = Run.create(config, cluster.writes)
    training.train(run, run.costs.progress(), strategy)
    index = strategy.cluster_resolver.task_id
    weights = {v.path.replace("/", "|"): v.numpy() for v in trainers[-1].supernet.variables}
    np.savez(directory / f"weights{index}.npz", **weights)
    if index == 1:
        (directory / "writes.json").write_text(json.dumps([not run.writes, run.writes]))


if __name__ == "__main__":
    {"mirrored": mirrored, "worker": worker}[sys.argv[1]](*sys.argv[2:])
