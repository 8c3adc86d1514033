"""Trains a float network and writes it to a file. A killed training resumes from its last checkpoint."""

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np
import tensorflow as tf

from tfqnas.errors import SettingError, TrainingDivergedError, UserError
from tfqnas.files import read_json, replaced, write_json
from tfqnas.locks import writer
from tfqnas.progress import Part, Progress
from tfqnas.settings import first_difference, plain
from tfqnas.train import checkpoint
from tfqnas.train.loop import cosine
from tfqnas.zoo import tasks
from tfqnas.zoo.float_config import FloatConfig

# Share of the steps in which the learning rate rises, before the cosine.
_WARMUP = 0.05


def train_float(
    config: FloatConfig, say: Callable[[str], None] = print, progress: Progress | None = None
) -> tuple[keras.Model, dict[str, Any]]:
    """Trains a network, and writes the `.keras` file `config.output` and a `.json` file with its figures next to it.

    After a kill the same call resumes from the last checkpoint, and gives the same weights as without the kill.
    Checkpoints are in a directory next to the output, which is removed at the end. For a finished training the call
    only repeats the figures.

    Args:
        config: `FloatConfig`.
        say: called with lines for the user.
        progress: a `Progress` with the parts "train" and "test"; replaced in tests.

    Returns:
        `(keras.Model, figures)` with the dictionary of the task's `test`.

    Raises:
        UserError: the output was made with other settings, or the data set is not available.
        TrainingDivergedError: a loss is not finite.
    """
    if pathlib.Path(config.output).suffix != ".keras":
        raise SettingError("output", "a .keras file", config.output)
    record = pathlib.Path(config.output).with_suffix(".json")
    if found := _finished(config, record, say):  # needs no lock
        return found
    with writer(config.output, "output", [config.output, record, _checkpoints(config)]):
        return _finished(config, record, say) or _trained(config, record, say, progress)


def _trained(
    config: FloatConfig, record: pathlib.Path, say: Callable[[str], None], progress: Progress | None
) -> tuple[keras.Model, dict[str, Any]]:
    keras.utils.set_random_seed(config.seed)
    task = tasks.task_of(config, say)
    training = Training(config, task)
    progress = progress or Progress([("train", 20.0), ("test", 1.0)])
    with progress.part("train") as part:
        training.run(part)
    with progress.part("test"):
        figures = task.test(training.model)
    _write(config, training.model, record, {**task.about, "figures": figures})
    shutil.rmtree(training.checkpoints.directory, ignore_errors=True)
    say(f"{config.output}: {tasks.sentence(figures)}")
    return training.model, figures


class _Trained(TypedDict):
    """The `.json` file next to a trained network."""

    net: str
    config: dict[str, Any]
    figures: dict[str, Any]
    class_names: NotRequired[list[str]]
    data_sha256: NotRequired[str]


class Training:
    """The training of a task's model, with its optimizer and its checkpoints.

    Args:
        config: `FloatConfig`.
        task: `tfqnas.zoo.tasks.FloatTask`.
    """

    def __init__(self, config: FloatConfig, task: tasks.FloatTask) -> None:
        self.config, self.task = config, task
        self.model, self.optimizer = task.model, task.optimizer
        self.optimizer.build(self.model.trainable_variables)
        self.checkpoints = checkpoint.Checkpoints(_checkpoints(config))
        self._decay = config.weight_decay if task.decays else 0.0
        self._step = tf.function(self._update, autograph=False, reduce_retracing=True)

    @property
    def _variables(self) -> dict[str, keras.Variable]:
        """All variables by name. The numbers in the names do not depend on the process."""
        weights = {f"{i:03}/{v.name}": v for i, v in enumerate(self.model.variables) if v.dtype != "string"}
        return {**weights, **{f"optimizer/{i:03}": v for i, v in enumerate(self.optimizer.variables)}}

    def _update(self, images: tf.Tensor, targets: tf.Tensor, by_batch: bool) -> tf.Tensor:
        """Makes one step; `by_batch` says whether BatchNorm normalises by the batch or as in inference."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.task.loss(self.model(images, training=by_batch), targets)
        gradients = tape.gradient(loss, [v.value for v in variables])
        if self._decay:
            gradients = [
                g + self._decay * tf.convert_to_tensor(v) if v.name == "kernel" else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        self.optimizer.apply(gradients, variables)
        return loss

    def run(self, part: Part) -> None:
        """Makes all steps after the last checkpoint; `part` is a part of a `Progress`."""
        total, start = self.task.steps, self._resume()
        part.resume(start / total)
        shown, every = None, self.config.checkpoint_steps
        frozen = round(self.config.value("batch_statistics") * total)  # from this step on
        batches = self.task.batches(start, total)
        for step in range(start, total):
            rate = cosine(self.config.value("learning_rate"), step, total, round(_WARMUP * total))
            self.optimizer.learning_rate.assign(rate)
            loss = float(self._step(*next(batches), step < frozen))
            if not np.isfinite(loss):
                raise TrainingDivergedError(
                    f"{self.config.net}, step {step} of {total}, learning rate {rate:.3g}: the loss is {loss}; try a "
                    "lower `learning_rate` and another `output`"
                )
            shown = loss if shown is None else 0.98 * shown + 0.02 * loss
            part.update((step + 1) / total, f"step {step + 1} of {total}, loss {shown:.4f}")
            if (step + 1) % every == 0 or step + 1 == total:
                self._save(step + 1)

    def _save(self, step: int) -> None:
        values = {name: np.asarray(v) for name, v in self._variables.items()}
        self.checkpoints.save(step, values, {"config": plain(self.config), **self.task.about})

    def _resume(self) -> int:
        """Restores the last checkpoint and returns its step, or 0 without a checkpoint."""
        loaded = self.checkpoints.load()
        if loaded is None:
            return 0
        values, meta = loaded
        where = f"the checkpoint in {self.checkpoints.directory}"
        _refuse_if_different(self.config, meta["config"], where)
        if any(meta.get(name, value) != value for name, value in self.task.about.items()):
            raise UserError(f"{where}: the training images have changed since; put them back, or give another `output`")
        for name, variable in self._variables.items():
            if name not in values or values[name].shape != tuple(variable.shape):
                raise UserError(f"{where} does not fit this network: {name}; remove it or give another `output`")
            variable.assign(values[name])
        return meta["step"]


def _checkpoints(config: FloatConfig) -> pathlib.Path:
    """The directory of the checkpoints."""
    return pathlib.Path(f"{config.output}.checkpoints")


def _finished(
    config: FloatConfig, record: pathlib.Path, say: Callable[[str], None]
) -> tuple[keras.Model, dict[str, Any]] | None:
    """The model and figures of a finished training, or None."""
    if not (record.exists() and pathlib.Path(config.output).exists()):
        return None
    known = read_json(record, _Trained)
    _refuse_if_different(config, known["config"], record)
    say(f"{config.output} is trained already: {tasks.sentence(known['figures'])}")
    model = keras.saving.load_model(config.output)
    checkpoint.check_weights(model.variables, config.output)
    return model, known["figures"]


def _refuse_if_different(config: FloatConfig, known: Mapping[str, Any], where: str | pathlib.Path) -> None:
    if difference := first_difference(config, known):
        name, ours, theirs = difference
        raise UserError(
            f"{where} was made with `{name}={theirs}`, this command has `{name}={ours}`: give the same settings or "
            "another `output`"
        )


def _write(config: FloatConfig, model: keras.Model, record: pathlib.Path, about: Mapping[str, Any]) -> None:
    """Writes the model before the `.json` file, which marks a finished training."""
    with replaced(config.output) as temporary:
        model.save(temporary)
    write_json(record, json.loads(json.dumps({"net": config.net, "config": plain(config), **about})))
