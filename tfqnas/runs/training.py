"""Trains the schedule of a run directory, and resumes each stage from its last checkpoint."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from tfqnas.arch import Arch
from tfqnas.data.dataset import DataSet
from tfqnas.errors import SettingError, UserError
from tfqnas.progress import Part, Progress
from tfqnas.runs.costs import INITIAL_IMAGES
from tfqnas.runs.directory import made_with, refuse_other_classes
from tfqnas.runs.events import Events
from tfqnas.runs.run import Run
from tfqnas.settings import plain
from tfqnas.supernet import Supernet, initialize
from tfqnas.train import checkpoint
from tfqnas.train.cluster import PATIENCE, Cluster, guarded, meet, of_environment
from tfqnas.train.inherit import copy_all, copy_weights, inherit
from tfqnas.train.loop import StepResult, Teacher, Trainer
from tfqnas.train.stages import MIXED, TrainingStage
from tfqnas.train.subnet_net import SubnetNet

# Errors of TensorFlow that other processes cause, and those that they may cause.
_LOST = (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError, tf.errors.CancelledError)
_PERHAPS_LOST = (tf.errors.FailedPreconditionError, tf.errors.InternalError, tf.errors.UnknownError)


def make_strategy(
    name: str, cluster: Cluster | None = None, patience: float = PATIENCE, say: Callable[[str], None] = print
) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of the setting `distribution`. Make it before any other use of TensorFlow.

    Args:
        name: the setting.
        cluster: what `tfqnas.train.cluster.of_environment` has found, which is called by default.
        patience: seconds that the other workers have to appear.
        say: called with lines for the user.

    Raises:
        UserError: TF_CONFIG is missing or wrong, or the port is taken.
        PartnerLostError: other workers do not appear.
    """
    if name == "multiworker":
        cluster = cluster or cast(Cluster, of_environment(name))
        meet(cluster, patience, say)
        tf.get_logger().setLevel("ERROR")  # it tells of every collective operation
        with _partners(cluster), guarded(patience):
            return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def train(
    run: Run,
    progress: Progress,
    strategy: tf.distribute.Strategy | None = None,
    stages: Sequence[TrainingStage] | None = None,
) -> None:
    """Trains stages of a run in order, each from its last checkpoint.

    Args:
        run: `Run`.
        progress: `tfqnas.progress.Progress` with a part for each stage.
        strategy: `tf.distribute.Strategy`; by default the current one.
        stages: the stages; by default all of the run's schedule.

    Raises:
        UserError: the batch size does not suit the number of replicas, or checkpoints or weights do not fit, or
            another process writes to the run's directory.
        TrainingDivergedError: a loss, gradient or weight is not finite.
        PartnerLostError: another process of the training has ended.
    """
    strategy = strategy or tf.distribute.get_strategy()
    cluster = of_environment("multiworker") if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) else None
    with run.writing(), _partners(cluster):
        if cluster:
            _check_agreement(run, strategy, cluster)
        _train(run, progress, strategy, stages or run.stages)


def _train(run: Run, progress: Progress, strategy: tf.distribute.Strategy, stages: Sequence[TrainingStage]) -> None:
    if run.config.batch_size % strategy.num_replicas_in_sync:
        expected = f"a multiple of the {strategy.num_replicas_in_sync} replicas"
        raise SettingError("batch_size", expected, run.config.batch_size)
    trainer = None
    for stage in stages:
        if run.networks.finished(stage):
            progress.skip(stage.name)
            continue
        with progress.part(stage.name) as part, strategy.scope():
            trainer = _StageTraining(run, stage, strategy, part, progress.log).train(trainer)


@contextlib.contextmanager
def _partners(cluster: Cluster | None) -> Iterator[None]:
    """Turns TensorFlow's errors about other workers into a `PartnerLostError`.

    TensorFlow's coordination service notices within ten seconds that a process has ended or hangs, and aborts the
    collective operations in which the others wait for it.
    """
    try:
        yield
    except (*_LOST, *_PERHAPS_LOST) as error:
        about = re.search("[Cc]ollective|[Cc]oordination|/job:", str(error))
        if cluster is None or not cluster.others or not (about or isinstance(error, _LOST)):
            raise
        raise cluster.lost(str(error)) from error


def _check_agreement(run: Run, strategy: tf.distribute.Strategy, cluster: Cluster) -> None:
    """Raises UserError in all workers if one is to train something else than the first one.

    Together they would wait for each other, or train a mixture of both.
    """
    config = plain(run.config)
    fixed = {field.name: config[field.name] for field in dataclasses.fields(run.config) if field.metadata["fixed"]}
    data = {name: getattr(run.dataset, name) for name in ("class_names", "channels", "image_size")}
    facts: dict[str, Any] = {
        "settings": fixed,
        "search space": run.space.to_json(),
        "images": {**data, "train": len(run.dataset.train), "held_out": len(run.dataset.held_out)},
        "checkpoints": {stage.name: [path.name for path in run.checkpoints(stage).files()[:1]] for stage in run.stages},
    }
    texts = (json.dumps(fact, sort_keys=True, default=str) for fact in facts.values())
    own = tf.constant([[int(hashlib.sha256(text.encode()).hexdigest()[:15], 16) for text in texts]], tf.int64)
    every = strategy.gather(strategy.run(lambda: own), axis=0).numpy()
    of_tasks = every.reshape(len(cluster.tasks), -1, len(facts))[:, 0]
    for task, theirs in zip(cluster.tasks, of_tasks, strict=True):
        for what, same in zip(facts, theirs == of_tasks[0], strict=True):
            if not same:
                raise UserError(
                    f"{task} has other {what} than {cluster.tasks[0]}: give all workers the same command, the same "
                    f"images, and a directory that all can read, {run.directory}"
                )


class _StageTraining:
    """The training of one stage, with its initial network and its records."""

    def __init__(
        self, run: Run, stage: TrainingStage, strategy: tf.distribute.Strategy, part: Part, say: Callable[[str], None]
    ) -> None:
        self.run, self.stage, self.strategy, self.part, self.say = run, stage, strategy, part, say
        self.total = run.steps(stage)
        self.waited = self.began = 0.0
        self.recent: list[float] = []
        self.steps = 0

    def train(self, trainer: Trainer | None) -> Trainer:
        """Trains the stage and returns its `Trainer`. The trainer of the stage before is reused if it fits."""
        run, stage = self.run, self.stage
        self.part.update(0.0, "preparing")
        supernet, teacher = self._start()
        self.supernet = supernet
        if trainer is None or trainer.supernet is not supernet or teacher is not None:
            trainer = Trainer(supernet, run.config, self.strategy, teacher, run.space)
        for variable in trainer.optimizer.variables:  # a stage starts without momentum
            variable.assign(np.zeros(variable.shape, variable.dtype))
        start = self._resume(trainer)
        if start == 0 and stage.bits is not None:
            _check_quantizers(supernet)
        self.events = Events(run, stage)
        if start == 0:
            self.events.begin()
        self.began = time.perf_counter()
        trainer.fit(
            stage, run.dataset.train, start, on_step=self._record, on_checkpoint=lambda step: self._save(trainer, step)
        )
        if self.total == 0:
            self._save(trainer, 0)
        self._finish(start)
        return trainer

    def _start(self) -> tuple[Supernet | SubnetNet, Teacher | None]:
        """The network with which the stage starts, and its teacher."""
        run, stage = self.run, self.stage
        if stage.init is None:
            keras.utils.set_random_seed(run.config.seed)  # the initial weights
            supernet = run.networks.new_supernet(stage.bits)
            if stage.name == "float" and run.config.float_weights:
                _load_float_weights(supernet, run.config.float_weights, run.dataset)
            if stage.bits is not None:
                initialize(supernet, self._initial_images())
            return supernet, None
        source_stage = run.stage(stage.init)
        source = cast(Supernet, run.networks.left_by(source_stage))
        if stage.arch is not None:
            return self._finetuned(source)
        if (source_stage.bits, source_stage.with_float) == (stage.bits, stage.with_float):
            run.networks.trained.pop(stage.init, None)  # the same network continues with its trace
            return source, None
        if source_stage.bits is None:
            supernet = run.networks.new_supernet(stage.bits, stage.with_float)
            copy_weights(source, supernet)
            initialize(supernet, self._initial_images())
        elif stage.bits == MIXED:
            supernet = run.networks.new_supernet(stage.bits, stage.with_float)
            copy_all(source, supernet)
        else:
            supernet = inherit(source, cast(int, stage.bits))
        if not run.checkpoints(stage).files():
            self._log_beginning(source, supernet)
        return supernet, self._teacher({stage.init: source})

    def _teacher(self, known: Mapping[str, Supernet | SubnetNet]) -> Teacher | None:
        """The `Teacher` of the stage or None; `known` holds networks by the names of their stages."""
        run, name = self.run, self.stage.soft_labels
        if name is None or name == "in_place":
            return None
        network = cast(Supernet, known.get(name) or run.networks.left_by(run.stage(name)))
        largest = run.config.teacher_arch == "largest" or network.bits is None
        return Teacher(network, run.evaluator.recalibrate(network, run.space.largest()) if largest else None)

    def _finetuned(self, supernet: Supernet) -> tuple[Supernet | SubnetNet, Teacher | None]:
        """The network of a finetuning, and for distillation the largest network of the unchanged supernet."""
        run, stage = self.run, self.stage
        student = self._subnet(supernet) if stage.integer_aware else supernet
        teacher = None
        if stage.soft_labels:
            # If the subnet is not extracted, training changes the supernet, so the teacher is loaded separately.
            init = run.stage(cast(str, stage.init))
            same = supernet if student is not supernet else cast(Supernet, run.networks.load(init))
            teacher = Teacher(same, run.evaluator.recalibrate(same, run.space.largest()))
        if student is supernet:
            run.networks.trained.pop(cast(str, stage.init), None)
        return student, teacher

    def _subnet(self, supernet: Supernet) -> SubnetNet:
        """The stage's subnet, extracted with the 8-bit quantizers of its later file."""
        run, arch = self.run, cast(Arch, self.stage.arch)
        subnet = run.networks.new_subnet(supernet, arch, run.evaluator.recalibrate(supernet, arch))
        initialize(subnet.model, self._initial_images(arch.resolution), missing_only=True)
        before, after = (
            run.evaluator.accuracy(supernet, arch, "held_out"),
            run.evaluator.accuracy(subnet, arch, "held_out"),
        )
        self.say(
            f"{self.stage.name}: {before:.1%} held-out accuracy in the supernet, {after:.1%} with all tensors at "
            "the bit widths of the integer model"
        )
        return subnet

    def _log_beginning(self, source: Supernet, supernet: Supernet) -> None:
        """Logs the accuracies with the weights of another stage before any training (compare OQA, table 1)."""
        run, largest = self.run, self.run.space.largest()
        statistics = run.evaluator.recalibrate(source, largest)
        record = {"accuracy_before": run.evaluator.accuracy(source, largest, "held_out", statistics)}
        old, new = "", "held-out accuracy with re-estimated statistics"
        if len(statistics) == len(supernet.observers):  # otherwise the source lacks statistics of quantizers
            record["accuracy_old_statistics"] = run.evaluator.accuracy(supernet, largest, "held_out", statistics)
            old = f"{record['accuracy_old_statistics']:.1%} held-out accuracy with the old BatchNorm statistics, "
            new = "with re-estimated ones"
        record["accuracy"] = run.evaluator.accuracy(supernet, largest, "held_out")
        event = "inherited" if source.bits else "quantized"
        run.log(stage=self.stage.name, event=event, source=self.stage.init, **record)
        self.say(
            f"{self.stage.name}: {event} from {self.stage.init} ({record['accuracy_before']:.1%}); before any training "
            f"the largest network has {old}{record['accuracy']:.1%} {new}"
        )

    def _initial_images(self, resolution: int | None = None) -> tf.Tensor:
        images = self.run.evaluator.images("train", resolution or max(self.run.space.resolutions), INITIAL_IMAGES)
        return next(iter(images.batches(INITIAL_IMAGES)))

    def _resume(self, trainer: Trainer) -> int:
        """Loads the stage's last checkpoint, and returns the number of finished steps, 0 without a checkpoint."""
        loaded = self.run.checkpoints(self.stage).load(self.say)
        if loaded is None:
            return 0
        self.run.networks.assign([*trainer.supernet.variables, *trainer.optimizer.variables], loaded, self.stage)
        self.say(f"{self.stage.name}: continuing at step {loaded[1]['step']} of {self.total}")
        self.part.resume(loaded[1]["step"] / max(1, self.total))
        return loaded[1]["step"]

    def _save(self, trainer: Trainer, step: int) -> None:
        self.events.quantizers(step, trainer.supernet.quantizers)
        if self.run.writes:
            variables = [*trainer.supernet.variables, *trainer.optimizer.variables]
            values = {v.path: v.numpy() for v in variables}
            self.run.checkpoints(self.stage).save(step, values, self.run.about(self.stage))
        for quantizer in trainer.supernet.quantizers:
            if quantizer.problem:
                self.say(f"warning: {self.stage.name}, step {step}: {quantizer.path}: {quantizer.problem}")

    def _record(self, step: int, result: StepResult, rate: float, waited: float) -> None:
        self.waited += waited
        self.recent = [*self.recent[-19:], result.accuracies[0]]
        text = f"loss {result.losses[0]:.3f}  accuracy {np.mean(self.recent):.1%}"
        if not self.steps:  # its time includes tracing, so it is left out of the rate
            self.part.resume((step + 1) / self.total)
        self.steps += 1
        self.part.update((step + 1) / self.total, text)
        if self._evaluates(step + 1):
            held_out = self._held_out()
            self.run.log(stage=self.stage.name, event="evaluated", step=step + 1, held_out=held_out)
            self.events.held_out(step + 1, held_out)
        if (step + 1) % 10 and step + 1 != self.total:
            return
        self.run.log(
            stage=self.stage.name,
            step=step + 1,
            learning_rate=rate,
            loss=float(result.losses[0]),
            accuracy=float(np.mean(self.recent)),
            losses=[round(float(x), 5) for x in result.losses],
            gradient_norm=result.gradient_norm,
        )
        self.events.step(step + 1, rate, result)

    def _evaluates(self, step: int) -> bool:
        """Whether `evaluation_epochs` asks for the accuracy after this many steps. The end is evaluated anyway."""
        config = self.run.config
        every = round(config.evaluation_epochs * len(self.run.dataset.train) / config.batch_size)
        return every > 0 and step % every == 0 and step != self.total

    def _held_out(self) -> dict[str, float]:
        """`{name: held-out accuracy}` of the largest and smallest subnet, or of the finetuned one."""
        archs = {"largest": self.run.space.largest()}
        if self.stage.sampling == "sandwich":
            archs["smallest"] = self.run.space.smallest()
        if self.stage.arch is not None:
            archs = {"subnet": self.stage.arch}
        return {name: self.run.evaluator.accuracy(self.supernet, arch, "held_out") for name, arch in archs.items()}

    def _finish(self, start: int) -> None:
        """Logs the final accuracy and the time of the stage."""
        seconds = time.perf_counter() - self.began
        self.run.networks.trained[self.stage.name] = self.supernet
        held_out = self._held_out()
        self.events.end(self.total, held_out)
        self.run.log(
            stage=self.stage.name,
            event="finished",
            steps=self.total,
            held_out=held_out,
            seconds=round(seconds, 2),
            input_wait=round(self.waited / max(seconds, 1e-9), 4),
        )
        accuracies = ", ".join(f"{name} {value:.1%}" for name, value in held_out.items())
        self.say(
            f"{self.stage.name}: {self.total - start} steps in {seconds:.0f} s, {self.waited / seconds:.1%} of it "
            f"waiting for input; held-out accuracy: {accuracies}"
        )


def _check_quantizers(supernet: Supernet | SubnetNet) -> None:
    for quantizer in supernet.quantizers:
        if quantizer.problem:
            raise UserError(f"{quantizer.path}: {quantizer.problem}")


def _load_float_weights(supernet: Supernet, path: str, dataset: DataSet) -> None:
    """Loads the user's float weights from a checkpoint of a run or a file of Keras' `save_weights`."""
    if not pathlib.Path(path).exists():
        raise UserError(f"`float_weights`: {path} is not there")
    if path.endswith(".npz"):
        values, meta = checkpoint.read(path)
        refuse_other_classes(made_with(meta, path), dataset, f"`float_weights`: {path}")
        checkpoint.assign(supernet.variables, values, path)
        return
    try:
        supernet.load_weights(path)
    except (ValueError, OSError) as error:
        raise UserError(f"`float_weights`: {path} does not fit this network: {error}") from None
    checkpoint.check_weights(supernet.variables, path)
