"""The training loop, which all stages share. It runs on any number of devices."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfqnas.arch import Arch
from tfqnas.data.augment import Augmentation
from tfqnas.data.pipeline import training_batches
from tfqnas.data.splits import Split
from tfqnas.errors import NotFiniteError, TrainingDivergedError
from tfqnas.spaces import SearchSpace
from tfqnas.supernet import Supernet
from tfqnas.train.distill import subnet_loss
from tfqnas.train.optimizer import FusedSGD
from tfqnas.train.run_config import RunConfig
from tfqnas.train.sampling import sampler
from tfqnas.train.stages import TrainingStage
from tfqnas.train.subnet_net import SubnetNet

# The settings of the augmentation, which are fields of both `RunConfig` and `Augmentation`.
AUGMENTATION = ("crop_area", "shift", "zoom", "rotation", "flip", "brightness", "saturation")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The supernet of the next higher bit width, in inference mode.

    Attributes:
        supernet: `Supernet`; its weights are not changed.
        statistics: recalibrated BatchNorm statistics of its largest network, which then teaches. None for a teacher
            with the student's architecture and the statistics of the batch.
    """

    supernet: Supernet
    statistics: list[np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class StepResult:
    """The measurements of a training step.

    Attributes:
        losses, accuracies: float (subnets,), on the augmented batch.
        gradient_norm: norm of the sum of the subnets' gradients.
    """

    losses: np.ndarray
    accuracies: np.ndarray
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether all losses and the gradient's norm are finite."""
        return bool(np.all(np.isfinite(self.losses)) and np.isfinite(self.gradient_norm))


class Trainer:
    """Trains one supernet. Its step is traced once and serves every architecture and stage.

    A step runs its subnets one after another in a `tf.while_loop`, each at its own resolution. It sums their gradients
    (as once-for-all and BigNAS do) and updates once. In in-place distillation the first subnet, the largest, gives the
    soft labels.

    Args:
        supernet: `Supernet`, created under the scope of the strategy.
        config: `RunConfig`.
        strategy: `tf.distribute.Strategy`; by default the current one.
        teacher: `Teacher`, or None for in-place distillation.
        space: `SearchSpace` from which subnets are drawn; by default the supernet's.
    """

    def __init__(
        self,
        supernet: Supernet | SubnetNet,
        config: RunConfig,
        strategy: tf.distribute.Strategy | None = None,
        teacher: Teacher | None = None,
        space: SearchSpace | None = None,
    ) -> None:
        self.supernet, self.config, self.teacher = supernet, config, teacher
        self.space = space or supernet.space
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            self.optimizer = FusedSGD(1.0, momentum=config.momentum, nesterov=True, name="optimizer")
            self.optimizer.build(supernet.trainable_variables)
        self._decayed = [v.path.endswith("kernel") for v in supernet.trainable_variables]
        self.compiled_step = tf.function(self._step, autograph=False)

    # A step, inside the graph ------------------------------------------------------------------------------

    def _step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        count: tf.Tensor,
        codes: tf.Tensor,
        resolutions: tf.Tensor,
        soft_weights: tf.Tensor,
        seed: tf.Tensor,
    ) -> list[tf.Tensor]:
        arguments = (images, labels, count, codes, resolutions, soft_weights, seed)
        losses, accuracies, norm = self.strategy.run(self._replica_step, arguments)
        mean = tf.distribute.ReduceOp.MEAN
        return [self.strategy.reduce(mean, value, axis=None) for value in (losses, accuracies, norm)]

    def _replica_step(
        self, images: tf.Tensor, labels: tf.Tensor, *subnets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        variables = self.supernet.trainable_variables
        gradients, losses, accuracies = self.gradients(images, labels, *subnets)
        norm = tf.linalg.global_norm(gradients)
        decay = self.config.weight_decay
        gradients = [
            g + decay * tf.convert_to_tensor(v) if decayed else g
            for g, v, decayed in zip(gradients, variables, self._decayed, strict=True)
        ]
        # The optimizer sums over replicas, and the update is for the mean.
        replicas = self.strategy.num_replicas_in_sync
        self.optimizer.apply([g / replicas for g in gradients] if replicas > 1 else gradients, variables)
        return losses, accuracies, norm

    def gradients(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        count: tf.Tensor,
        codes: tf.Tensor,
        resolutions: tf.Tensor,
        soft_weights: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Sums the gradients of the subnets on one batch, without weight decay.

        Args:
            images: float32 (batch, r, r, channels) at the largest resolution.
            labels: int32 (batch,).
            count: int32, number of subnets; the following arrays may be longer.
            codes: int32 (subnets, genes).
            resolutions: int32 (subnets,).
            soft_weights: float32 (subnets,), fraction of the loss that comes from soft labels.
            seed: int32 (2,), seed of the dropout.

        Returns:
            `(gradients, losses, accuracies)`: a list in the order of the trainable variables, and float32 (subnets,).
        """
        variables = [v.value for v in self.supernet.trainable_variables]
        context = tf.distribute.get_replica_context()
        seed += tf.constant([0, 1]) * (context.replica_id_in_sync_group if context else 0)

        def one_subnet(
            i: tf.Tensor | int,
            gradients: list[tf.Tensor],
            soft_logits: tf.Tensor,
            losses: tf.TensorArray,
            accuracies: tf.TensorArray,
        ) -> tuple[tf.Tensor | int, list[tf.Tensor], tf.Tensor, tf.TensorArray, tf.TensorArray]:
            x = _at_resolution(images, resolutions[i])
            if self.teacher is not None and self.teacher.statistics is None:
                soft_logits = self.teacher.supernet(x, codes[i])
            with tf.GradientTape() as tape:
                logits = self.supernet(x, codes[i], training=True, seed=seed + tf.stack([i, 0]))
                loss = subnet_loss(
                    logits,
                    labels,
                    soft_logits,
                    soft_weights[i],
                    self.config.label_smoothing,
                    self.config.distillation_temperature,
                )
            own = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            if self.teacher is None:
                soft_logits = tf.where(tf.equal(i, 0), logits, soft_logits)
            hits = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
            return (
                i + 1,
                [g + o for g, o in zip(gradients, own, strict=True)],
                tf.ensure_shape(soft_logits, (None, logits.shape[1])),
                losses.write(i, loss),
                accuracies.write(i, tf.reduce_mean(tf.cast(hits, tf.float32))),
            )

        if self.teacher is not None and self.teacher.statistics is not None:
            soft_logits = self.teacher.supernet(images, statistics=self.teacher.statistics)
        else:
            soft_logits = tf.zeros((tf.shape(images)[0], self.supernet.settings["num_classes"]))
        start = (
            0,
            [tf.zeros(v.shape) for v in variables],
            soft_logits,
            tf.TensorArray(tf.float32, count),
            tf.TensorArray(tf.float32, count),
        )
        # One after another, since in parallel the activations of all subnets would be in memory at once.
        _, gradients, _, losses, accuracies = tf.while_loop(
            lambda i, *_: i < count, one_subnet, start, parallel_iterations=1
        )
        return gradients, losses.stack(), accuracies.stack()

    # Stages ------------------------------------------------------------------------------------------------

    def run_step(
        self,
        batch: Any,
        archs: Sequence[Arch],
        soft_weights: Sequence[float],
        seed: tuple[int, int],
        learning_rate: float,
    ) -> StepResult:
        """Makes one update on one (distributed) batch.

        Args:
            batch: `(images, labels)`.
            archs: the subnets; the largest comes first in in-place distillation.
            soft_weights: fraction of the loss from soft labels for each subnet.
            seed: two ints, seed of the dropout.
            learning_rate: learning rate of this step.
        """
        self.optimizer.learning_rate.assign(learning_rate)
        subnets = self._padded(archs, soft_weights)
        losses, accuracies, norm = self.compiled_step(*batch, *subnets, tf.constant(seed, tf.int32))
        return StepResult(losses.numpy(), accuracies.numpy(), float(norm))

    def _padded(self, archs: Sequence[Arch], soft_weights: Sequence[float]) -> list[tf.Tensor]:
        """Tensors of the subnets, padded to the sandwich's length so that steps of all stages share one trace."""
        count, length = len(archs), max(len(archs), 2 + self.config.random_subnets)
        codes = np.zeros((length, len(self.supernet.space.genes)), np.int32)
        resolutions, weights = np.zeros(length, np.int32), np.zeros(length, np.float32)
        for i, arch in enumerate(archs):
            codes[i], resolutions[i], weights[i] = self.supernet.space.encode(arch), arch.resolution, soft_weights[i]
        return [tf.constant(x) for x in (np.int32(count), codes, resolutions, weights)]

    def fit(
        self,
        stage: TrainingStage,
        split: Split,
        start: int = 0,
        on_step: Callable[[int, StepResult, float, float], None] | None = None,
        on_checkpoint: Callable[[int], None] | None = None,
    ) -> None:
        """Trains a stage from step `start` to its end.

        Args:
            stage: `TrainingStage`.
            split: the training split, `Arrays` or `Encoded`.
            start: first step, which is the number of steps that the loaded weights have been trained for.
            on_step: called with `(step, StepResult, learning_rate, waited)` after each step; `waited` is the time in
                seconds that the step waited for its batch.
            on_checkpoint: called with the number of finished steps every `checkpoint_steps` and at the end.

        Raises:
            TrainingDivergedError: a loss, gradient or weight is not finite. The last checkpoint is from before it.
        """
        config = self.config
        total = total_steps(stage, len(split), config.batch_size)
        stage_seed = _stage_seed(config.seed, stage.name)
        # `self.space`, since the space of a network may include the float choice, or be that of a single subnet.
        sample = sampler(self.space, stage, config.random_subnets, config.sample_one_precision)
        warmup = round(config.warmup_epochs * len(split) / config.batch_size)
        batches = self._batches(split, stage_seed, start, total)
        for step in range(start, total):
            began = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - began
            archs = sample(np.random.default_rng((stage_seed, step)))
            weights = soft_weights(stage, len(archs), config.distillation_weight)
            rate = cosine(stage.learning_rate, step, total, warmup)
            result = self.run_step(batch, archs, weights, (stage_seed, step), rate)
            if not result.finite:
                raise self._diverged(stage, step, total, rate, result)
            try:
                if on_step:
                    on_step(step, result, rate, waited)
            except NotFiniteError:  # in an evaluation
                raise self._diverged(stage, step, total, rate, result, self._broken()) from None
            if on_checkpoint and ((step + 1) % config.checkpoint_steps == 0 or step + 1 == total):
                if broken := self._broken():
                    raise self._diverged(stage, step, total, rate, result, broken)
                on_checkpoint(step + 1)

    def _broken(self) -> list[str]:
        """Paths of weights that are not finite: a finite gradient can still be an update too large for float32."""
        return [v.path for v in self.supernet.variables if not np.all(np.isfinite(v.numpy()))]

    def _diverged(
        self, stage: TrainingStage, step: int, total: int, rate: float, result: StepResult, broken: Sequence[str] = ()
    ) -> TrainingDivergedError:
        problems = [f"; {q.path}: {q.problem}" for q in self.supernet.quantizers if q.problem]
        problems += [f"; {path} is not finite after the update" for path in broken]
        return TrainingDivergedError(
            f"stage {stage.name}, step {step} of {total}, learning rate {rate:.3g}: expected finite numbers, the "
            f"loss is {_numbers(result.losses)} and the gradient's norm {result.gradient_norm:.3g}"
            f"{''.join(problems[:3])}. The last checkpoint is intact; try a lower learning rate in a new run"
        )

    def _batches(self, split: Split, seed: int, start: int, stop: int) -> Iterator[Any]:
        config = self.config
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise ValueError(f"batch_size: expected a multiple of {replicas} replicas, got {config.batch_size}")
        augmentation = augmentation_of(config)
        resolution = max(self.supernet.space.resolutions)

        def make(context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
            return training_batches(split, resolution, config.batch_size, seed, start, stop, augmentation, context)

        return iter(self.strategy.distribute_datasets_from_function(make))


def augmentation_of(config: RunConfig) -> Augmentation:
    """The `Augmentation` of a run's settings."""
    return Augmentation(**{name: getattr(config, name) for name in AUGMENTATION})


def total_steps(stage: TrainingStage, images: int, batch_size: int) -> int:
    """The number of steps of a stage: its epochs over `images`, rounded."""
    return round(stage.epochs * images / batch_size)


def cosine(peak: float, step: int, total: int, warmup: int) -> float:
    """The learning rate of a step. It rises linearly to `peak` over `warmup` steps, then falls to 0 as a cosine."""
    warmup = min(warmup, total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def soft_weights(stage: TrainingStage, count: int, teacher_weight: float) -> list[float]:
    """For each subnet the fraction of the loss that comes from soft labels.

    In in-place distillation the first subnet, the largest, learns from the labels, and the others only from the first
    (BigNAS). A teacher teaches all subnets, with `teacher_weight` unless the stage has its own.
    """
    if stage.soft_labels is None:
        return [0.0] * count
    if stage.soft_labels == "in_place":
        return [0.0] + [1.0] * (count - 1)
    return [teacher_weight if stage.soft_weight is None else stage.soft_weight] * count


def _at_resolution(images: tf.Tensor, resolution: tf.Tensor) -> tf.Tensor:
    """Images at a smaller resolution, or the same images at their own resolution."""
    own = tf.shape(images)[1]
    smaller = tf.cond(
        tf.equal(resolution, own),
        lambda: images,
        lambda: tf.image.resize(images, tf.stack([resolution, resolution]), antialias=True),
    )
    return tf.ensure_shape(smaller, (None, None, None, images.shape[-1]))


def _stage_seed(seed: int, name: str) -> int:
    digest = int.from_bytes(name.encode(), "big") % 1_000_003
    return (seed * 1_000_003 + digest) % (2**31 - 1)


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{v:.3g}" for v in values)
