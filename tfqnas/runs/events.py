"""Writes TensorBoard events of a run, in a directory for each stage.

These are scalars of the stage, of each subnet of the sandwich and of every quantizer, augmented training images, and
the settings as HParams with the final held-out accuracy as their metric.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfqnas.data.pipeline import training_batches
from tfqnas.quantizers import Quantizer
from tfqnas.runs.run import Run
from tfqnas.settings import plain
from tfqnas.train.loop import StepResult, augmentation_of
from tfqnas.train.run_config import RunConfig
from tfqnas.train.stages import TrainingStage

IMAGES = 8


class Events:
    """Writes the events of one stage. It does nothing in workers that do not write.

    Args:
        run: `Run`.
        stage: `TrainingStage`.
    """

    def __init__(self, run: Run, stage: TrainingStage) -> None:
        self._run, self._stage = run, stage
        path = run.directory / "events" / stage.name
        self._writer = tf.summary.create_file_writer(str(path)) if run.writes else None

    def begin(self) -> None:
        """Writes the settings, and images as the network gets them."""
        if self._writer is None:
            return
        from tensorboard.plugins.hparams import api  # a second to import

        trial = f"{self._run.directory.name}-{self._stage.name}"
        with self._writer.as_default(step=0):
            api.hparams(hparams(self._run.config, self._stage), trial_id=trial)
            tf.summary.image("inputs/augmented", self._augmented(), max_outputs=IMAGES)

    def step(self, step: int, rate: float, result: StepResult) -> None:
        """Writes the scalars of a step, with losses and accuracies of each subnet of the sandwich."""
        if self._writer is None:
            return
        names = ["largest", "smallest"] + [f"random_{i}" for i in range(1, len(result.losses) - 1)]
        with self._writer.as_default(step=step):
            tf.summary.scalar("learning_rate", rate)
            tf.summary.scalar("gradient_norm", result.gradient_norm)
            for name, loss, hits in zip(names, result.losses, result.accuracies, strict=False):
                tf.summary.scalar(f"loss/{name}", loss)
                tf.summary.scalar(f"accuracy/{name}", hits)

    def held_out(self, step: int, accuracies: Mapping[str, float]) -> None:
        """Writes held-out accuracies by the name of the subnet."""
        if self._writer is None:
            return
        with self._writer.as_default(step=step):
            for name, value in accuracies.items():
                tf.summary.scalar(f"held_out/{name}", value)

    def quantizers(self, step: int, quantizers: Iterable[Quantizer]) -> None:
        """Writes the parameters of every quantizer as a scalar, or several values as their mean and a histogram."""
        if self._writer is None:
            return
        with self._writer.as_default(step=step):
            for quantizer in quantizers:
                for variable in quantizer.variables:
                    value = np.asarray(variable)
                    tf.summary.scalar(f"quantizers/{variable.path}", value.mean())
                    if value.size > 1:
                        tf.summary.histogram(f"quantizers/{variable.path}", value)
        self._writer.flush()

    def end(self, step: int, accuracies: Mapping[str, float]) -> None:
        """Writes the final held-out accuracies, and closes the events."""
        self.held_out(step, accuracies)
        if self._writer is not None:
            self._writer.close()

    def _augmented(self) -> np.ndarray:
        """Augmented training images, float32 (n, height, width, channels) from 0 to 1."""
        run = self._run
        batches = training_batches(
            run.dataset.train,
            max(run.space.resolutions),
            min(IMAGES, len(run.dataset.train)),
            run.config.seed,
            0,
            1,
            augmentation_of(run.config),
        )
        images, _ = next(iter(batches))
        return np.clip((np.asarray(images) * 128 + 128) / 255, 0, 1)


def hparams(config: RunConfig, stage: TrainingStage) -> dict[str, Any]:
    """The settings in a form that HParams can show, with name, epochs and learning rate of the stage."""
    known = {name: value for name, value in plain(config).items() if isinstance(value, (bool, int, float, str))}
    lists = {name: ",".join(map(str, value)) for name, value in plain(config).items() if isinstance(value, list)}
    of_stage = {"stage": stage.name, "stage_epochs": stage.epochs, "stage_learning_rate": stage.learning_rate}
    return {**known, **lists, **of_stage}
