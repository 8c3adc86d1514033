"""A run directory, and the training of a whole schedule in it: what is done is kept, what is not goes on."""

import dataclasses
import functools
import os
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

from tfqnas import data, spaces
from tfqnas.cost import count
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, write_atomically
from tfqnas.progress import Progress
from tfqnas.quantizers import LSQ
from tfqnas.settings import plain
from tfqnas.supernet import Supernet, initialize
from tfqnas.train import checkpoint
from tfqnas.train.calibrate import accuracy, predict, recalibrate
from tfqnas.train.config import RunConfig
from tfqnas.train.inherit import copy_weights, inherit
from tfqnas.train.loop import Teacher, Trainer, sampler, total_steps
from tfqnas.train.stages import schedule

# Images for the initialisation of the quantizers, and for a quick look at the accuracy while training.
INITIAL_IMAGES = 256


class Run:
    """A run directory: settings, data, checkpoints, logs.

    Args:
        config: `RunConfig` with its `run_dir`.

    Attributes:
        config, space, dataset, stages, directory, trained.
    """

    def __init__(self, config):
        self.config = config
        self.directory = pathlib.Path(config.run_dir)
        # The space as it was when the run began: a file that --space names may have changed since.
        kept = self.directory / "space.json"
        self.space = spaces.get(str(kept) if config.run_dir and kept.exists() else config.space)
        self.stages = schedule(config)
        self.writes = _is_chief()
        self.trained = {}  # supernets that this process has trained, by stage
        self._images = {}

    @classmethod
    def create(cls, config):
        """Opens the run directory of `config` and makes it where it is missing.

        Raises:
            UserError: where it holds a run with other settings, naming the first one that differs.
        """
        if not config.run_dir:
            raise UserError("--run_dir: expected a directory for the checkpoints and results of this run")
        path = pathlib.Path(config.run_dir) / "config.json"
        if path.exists():
            config.refuse_if_different(plain(_read_config(path)), str(path))
        run = cls(config)
        if run.space != spaces.get(config.space):
            raise UserError(f"--space={config.space} differs from {run.directory}/space.json, with which the run in "
                            f"{run.directory} began: give the same space, or another --run_dir")  # fmt: skip
        run.check()
        if run.writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(run.directory / "space.json", run.space.to_json() + "\n")
            write_atomically(path, config.to_json() + "\n")
        return run

    @classmethod
    def existing(cls, run_dir):
        """Opens a run directory that a training has made, wherever it lies now."""
        path = pathlib.Path(run_dir) / "config.json"
        if not path.exists():
            raise UserError(f"--run_dir: expected a directory that tools/train.py made, {path} is not there")
        return cls(dataclasses.replace(_read_config(path), run_dir=str(run_dir)))

    @classmethod
    def of_checkpoint(cls, path):
        """Returns `(run, supernet, description)` of a checkpoint file, or of the newest in a stage's directory.

        It may be of a stage that is not finished.
        """
        path = pathlib.Path(path)
        loaded = checkpoint.Checkpoints(path).load() if path.is_dir() else checkpoint.read(path)
        if loaded is None:
            raise UserError(f"{path}: expected a checkpoint file, or a directory with some")
        values, meta = loaded
        directory = path.parents[1] if path.is_dir() else path.parents[2]
        run = cls(dataclasses.replace(RunConfig(**meta["config"]), run_dir=str(directory)))
        supernet = run.new_supernet(meta["stage"]["bits"])
        checkpoint.assign(supernet.variables, values, str(path))
        return run, supernet, f"{meta['stage']['name']} after {meta['step']} steps"

    def check(self):
        """Refuses settings that the data cannot serve."""
        images = len(self.dataset.train_images)
        if self.config.batch_size > images:
            raise UserError(f"--batch_size: expected at most the {images} training images of "
                            f"{self.config.dataset}, received {self.config.batch_size}")  # fmt: skip

    @functools.cached_property
    def dataset(self):
        return data.load(self.config.dataset, self.config.held_out, self.config.seed)

    def images(self, split, resolution, limit=None):
        """Returns `(images, labels)` of a split at a resolution, normalised; kept in memory."""
        key = (split, resolution, limit)
        if key not in self._images:
            images, labels = self.dataset.split(split)
            if limit is not None and limit < len(images):
                chosen = np.random.default_rng((self.config.seed, 2)).permutation(len(images))[:limit]
                images, labels = images[chosen], labels[chosen]
            self._images[key] = (data.resized(images, resolution), labels)
        return self._images[key]

    def recalibrate(self, supernet, arch):
        """BatchNorm statistics of a subnet, from training images at its resolution."""
        images, _ = self.images("train", arch.resolution, self.config.recalibration_images)
        return recalibrate(supernet, self.space.encode(arch), images)

    def accuracy(self, supernet, arch, split, statistics=None):
        """Accuracy of a subnet on a split, after recalibration unless `statistics` are given."""
        statistics = self.recalibrate(supernet, arch) if statistics is None else statistics
        images, labels = self.images(split, arch.resolution)
        return accuracy(predict(supernet, self.space.encode(arch), statistics, images), labels)

    def new_supernet(self, bits):
        """A fresh supernet of this run: LSQ of `bits` (None: floating point)."""
        config = self.config
        quantizers = {}
        if bits is not None:
            quantizers["weights"] = LSQ(bits=bits, narrow_range=config.narrow_range)
            quantizers["inputs"] = LSQ(bits=bits, signed=False)
        return Supernet(
            self.space, num_classes=self.dataset.num_classes, channels=self.dataset.channels,
            dropout=config.dropout, kernel_transform=config.kernel_transform, **quantizers,
        )  # fmt: skip

    def stage(self, name):
        """The stage of this run's schedule with that name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise UserError(f"stage: expected one of {[s.name for s in self.stages]}, received {name!r}")

    def cost(self, arch, bits):
        """Costs of a subnet by name, FLOPs in millions and weights in kB (1,000 bytes)."""
        cost = count(self.space, arch, bits, self.dataset.num_classes, self.dataset.channels)
        return {
            "effective_mflops": cost.effective_flops / 1e6, "mmacs": cost.macs / 1e6,
            "mbitops": cost.bitops / 1e6, "params": cost.params, "kB": cost.weight_bytes / 1e3,
        }  # fmt: skip

    def work(self, stage):
        """Relative work of a stage: MACs, three times a forward pass, of its subnets and its teacher."""
        rng = np.random.default_rng(0)
        subnets = [arch for _ in range(8) for arch in sampler(self.space, stage, self.config.random_subnets)(rng)]
        macs = sum(3 * self.cost(arch, stage.bits)["mmacs"] for arch in subnets) / 8
        if stage.init and stage.soft_labels == stage.init:
            macs += self.cost(self.space.largest(), stage.bits)["mmacs"]
        # A stage of no steps still loads, recalibrates and evaluates.
        return macs * (self.steps(stage) * self.config.batch_size + INITIAL_IMAGES)

    def checkpoints(self, stage):
        return checkpoint.Checkpoints(self.directory / "checkpoints" / stage.name)

    def steps(self, stage):
        return total_steps(stage, len(self.dataset.train_images), self.config.batch_size)

    def finished(self, stage):
        """Whether the stage's last checkpoint stands at its last step."""
        loaded = self.checkpoints(stage).load()
        return loaded is not None and loaded[1]["step"] == self.steps(stage)

    def load(self, stage):
        """The supernet that a finished stage has left.

        Raises:
            UserError: where the stage has not been trained to its end.
        """
        loaded = self.checkpoints(stage).load()
        if loaded is None or loaded[1]["step"] != self.steps(stage):
            at = "has no checkpoint" if loaded is None else f"stands at step {loaded[1]['step']}"
            raise UserError(f"{self.directory}: stage {stage.name} {at}, expected step {self.steps(stage)}: "
                            "run tools/train.py with this run's flags to its end")  # fmt: skip
        supernet = self.new_supernet(stage.bits)
        self._assign(supernet.variables, loaded, stage)
        return supernet

    def supernet(self, bits):
        """The trained supernet of a bit width."""
        if bits not in self.config.bits:
            raise UserError(f"--bits: expected one of this run's {list(self.config.bits)}, received {bits}")
        stage = self.stage(f"supernet_b{bits}")
        return self.trained[stage.name] if stage.name in self.trained else self.load(stage)

    def _assign(self, variables, loaded, stage):
        values, meta = loaded
        where = f"the checkpoint of stage {stage.name} in {self.directory}"
        self.config.refuse_if_different(meta["config"], where)
        for name, value in _stage_record(stage).items():
            if meta["stage"][name] != value:
                raise UserError(f"{where}: {name} is {meta['stage'][name]}, this command has {value}")
        checkpoint.assign(variables, values, where)

    def progress(self, stages=None):
        """A `Progress` with a part for each stage."""
        return Progress([(stage.name, self.work(stage)) for stage in stages or self.stages])

    def log(self, **record):
        """Appends a record to `log.jsonl`."""
        if self.writes:
            append_jsonl(self.directory / "log.jsonl", {"time": round(time.time(), 3), **record})


def _read_config(path):
    try:
        return RunConfig.from_json(path.read_text())
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not the settings of a run ({error})") from None


def _is_chief():
    """Only the first worker writes; all of them read."""
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    first = "chief" if "chief" in cluster.cluster_spec().jobs else "worker"
    return (cluster.task_type or first) == first and (cluster.task_id or 0) == 0


def make_strategy(name):
    """The `tf.distribute` strategy of `--distribution`; to be made before anything else of TensorFlow."""
    if name == "multiworker":
        if "TF_CONFIG" not in os.environ:
            raise UserError("--distribution=multiworker: expected the environment variable TF_CONFIG")
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def train(run, progress, strategy=None, stages=None):
    """Trains stages of a run in order, each from its last checkpoint.

    Args:
        run: `Run`.
        progress: `tfqnas.progress.Progress` with a part for each stage.
        strategy: `tf.distribute.Strategy`.
        stages: by default all of the run's schedule.
    """
    strategy = strategy or tf.distribute.get_strategy()
    if run.config.batch_size % strategy.num_replicas_in_sync:
        raise UserError(f"--batch_size: expected a multiple of the {strategy.num_replicas_in_sync} replicas, "
                        f"received {run.config.batch_size}")  # fmt: skip
    trainer = None
    for stage in stages or run.stages:
        if run.finished(stage):
            progress.skip(stage.name)
            continue
        with progress.part(stage.name) as part, strategy.scope():
            trainer = _StageTraining(run, stage, strategy, part, progress.log).train(trainer)


class _StageTraining:
    """One stage: the network it starts from, its loop, its records."""

    def __init__(self, run, stage, strategy, part, say):
        self.run, self.stage, self.strategy, self.part, self.say = run, stage, strategy, part, say
        self.total = run.steps(stage)
        self.waited = self.began = 0.0
        self.recent, self.steps = [], 0

    def train(self, trainer):
        """Trains the stage and returns its `Trainer`; that of the stage before is used again if it fits."""
        run, stage = self.run, self.stage
        self.part.update(0.0, "preparing")
        supernet, teacher = self._start()
        if trainer is None or trainer.supernet is not supernet or teacher is not None:
            trainer = Trainer(supernet, run.config, self.strategy, teacher)
        for variable in trainer.optimizer.variables:  # a stage starts with no momentum
            variable.assign(np.zeros(variable.shape, variable.dtype))
        start = self._resume(trainer)
        if start == 0 and stage.bits is not None:
            _check_quantizers(supernet)
        images, labels = run.dataset.split("train")
        events = tf.summary.create_file_writer(str(run.directory / "events" / stage.name)) if run.writes else None
        self.began = time.perf_counter()
        trainer.fit(
            stage, images, labels, start,
            on_step=lambda *args: self._record(events, *args),
            on_checkpoint=lambda step: self._save(trainer, step, events),
        )  # fmt: skip
        if self.total == 0:
            self._save(trainer, 0, events)
        self._finish(supernet, start)
        return trainer

    def _start(self):
        """The network that the stage starts from, and its teacher."""
        run, stage = self.run, self.stage
        if stage.init is None:
            keras.utils.set_random_seed(run.config.seed)  # the initial weights
            supernet = run.new_supernet(stage.bits)
            if stage.name == "float" and run.config.float_weights:
                _load_float_weights(supernet, run.config.float_weights)
            if stage.bits is not None:
                initialize(supernet, self._initial_images())
            return supernet, None
        source_stage = run.stage(stage.init)
        # What this process has trained it need not read again, nor, as one of several workers, wait for.
        source = run.trained[stage.init] if stage.init in run.trained else run.load(source_stage)
        if source_stage.bits == stage.bits:
            run.trained.pop(stage.init, None)  # the same network goes on, its trace is used again
            return source, None
        if source_stage.bits is None:
            supernet = run.new_supernet(stage.bits)
            copy_weights(source, supernet)
            initialize(supernet, self._initial_images())
            return supernet, None
        supernet = inherit(source, stage.bits)
        largest = run.space.largest()
        statistics = run.recalibrate(source, largest)
        if not self.run.checkpoints(stage).files():
            self._log_inherited(source, supernet, statistics)
        if stage.soft_labels != stage.init:
            return supernet, None
        return supernet, Teacher(source, statistics if run.config.teacher_arch == "largest" else None)

    def _log_inherited(self, source, supernet, statistics):
        """The accuracies right after inheritance, before any training (compare OQA, table 1)."""
        largest = self.run.space.largest()
        record = {
            "accuracy_before": self.run.accuracy(source, largest, "held_out", statistics),
            "accuracy_old_statistics": self.run.accuracy(supernet, largest, "held_out", statistics),
            "accuracy": self.run.accuracy(supernet, largest, "held_out"),
        }
        self.run.log(stage=self.stage.name, event="inherited", source=self.stage.init, **record)
        self.say(
            f"{self.stage.name}: inherited from {self.stage.init} ({record['accuracy_before']:.1%}); before any "
            f"training the largest network has {record['accuracy_old_statistics']:.1%} held-out accuracy with "
            f"the old BatchNorm statistics, {record['accuracy']:.1%} with re-estimated ones"
        )

    def _initial_images(self):
        images, _ = self.run.images("train", max(self.run.space.resolutions), INITIAL_IMAGES)
        return images

    def _resume(self, trainer):
        """Loads the stage's last checkpoint, if there is one, and returns the number of steps done."""
        loaded = self.run.checkpoints(self.stage).load(self.say)
        if loaded is None:
            return 0
        self.run._assign([*trainer.supernet.variables, *trainer.optimizer.variables], loaded, self.stage)
        self.say(f"{self.stage.name}: continuing at step {loaded[1]['step']} of {self.total}")
        self.part.resume(loaded[1]["step"] / max(1, self.total))
        return loaded[1]["step"]

    def _save(self, trainer, step, events):
        if self.run.writes:
            events.flush()
            variables = [*trainer.supernet.variables, *trainer.optimizer.variables]
            values = {v.path: v.numpy() for v in variables}
            meta = {"stage": _stage_record(self.stage), "config": plain(self.run.config)}
            self.run.checkpoints(self.stage).save(step, values, meta)
        for quantizer in trainer.supernet.quantizers:
            if quantizer.problem:
                self.say(f"warning: {self.stage.name}, step {step}: {quantizer.path}: {quantizer.problem}")

    def _record(self, events, step, result, rate, waited):
        self.waited += waited
        self.recent = [*self.recent[-19:], result.accuracies[0]]
        text = f"loss {result.losses[0]:.3f}  accuracy {np.mean(self.recent):.1%}"
        if not self.steps:  # the first step includes the trace: it says nothing of the pace
            self.part.resume((step + 1) / self.total)
        self.steps += 1
        self.part.update((step + 1) / self.total, text)
        if (step + 1) % 10 and step + 1 != self.total:
            return
        names = ["largest", "smallest"] + [f"random_{i}" for i in range(1, len(result.losses) - 1)]
        self.run.log(
            stage=self.stage.name, step=step + 1, learning_rate=rate, loss=float(result.losses[0]),
            accuracy=float(np.mean(self.recent)), losses=[round(float(x), 5) for x in result.losses],
            gradient_norm=result.gradient_norm,
        )  # fmt: skip
        if events:
            with events.as_default(step=step + 1):
                tf.summary.scalar("learning_rate", rate)
                tf.summary.scalar("gradient_norm", result.gradient_norm)
                for name, loss, hits in zip(names, result.losses, result.accuracies, strict=False):
                    tf.summary.scalar(f"loss/{name}", loss)
                    tf.summary.scalar(f"accuracy/{name}", hits)

    def _finish(self, supernet, start):
        """Held-out accuracy of the extremes, and how long the stage took."""
        seconds = time.perf_counter() - self.began
        self.run.trained[self.stage.name] = supernet
        extremes = {"largest": self.run.space.largest()}
        if self.stage.sampling == "sandwich":
            extremes["smallest"] = self.run.space.smallest()
        if self.stage.arch is not None:
            extremes = {"subnet": self.stage.arch}
        held_out = {name: self.run.accuracy(supernet, arch, "held_out") for name, arch in extremes.items()}
        self.run.log(
            stage=self.stage.name, event="finished", steps=self.total, held_out=held_out,
            seconds=round(seconds, 2), input_wait=round(self.waited / max(seconds, 1e-9), 4),
        )  # fmt: skip
        accuracies = ", ".join(f"{name} {value:.1%}" for name, value in held_out.items())
        self.say(
            f"{self.stage.name}: {self.total - start} steps in {seconds:.0f} s, {self.waited / seconds:.1%} of it "
            f"waiting for input; held-out accuracy: {accuracies}"
        )


def _stage_record(stage):
    return {**dataclasses.asdict(stage), "arch": stage.arch and stage.arch.key}


def _check_quantizers(supernet):
    for quantizer in supernet.quantizers:
        if quantizer.problem:
            raise UserError(f"{quantizer.path}: {quantizer.problem}")


def _load_float_weights(supernet, path):
    """The user's own float weights: a checkpoint of a run, or what Keras' `save_weights` wrote."""
    if not pathlib.Path(path).exists():
        raise UserError(f"--float_weights: {path} is not there")
    if path.endswith(".npz"):
        values, _ = checkpoint.read(path)
        checkpoint.assign(supernet.variables, values, path)
        return
    try:
        supernet.load_weights(path)
    except (ValueError, OSError) as error:
        raise UserError(f"--float_weights: {path} does not fit this network: {error}") from None
