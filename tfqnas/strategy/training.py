"""Quantization-aware search: the strategy of each tensor, learned together with the weights (DQSS)."""

import hashlib
import json

import keras
import numpy as np
import tensorflow as tf

from tfqnas.conversion import quantize
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.quantizers import quantizers_of
from tfqnas.settings import first_difference, plain
from tfqnas.strategy import losses
from tfqnas.strategy.candidates import names_for
from tfqnas.strategy.freezing import freeze
from tfqnas.strategy.images import checked
from tfqnas.strategy.learner import cosine_decay
from tfqnas.strategy.post_training import INITIAL_IMAGES, RECORDS, gives_probabilities, quantized
from tfqnas.strategy.result import Result, choices_of, searched_of
from tfqnas.strategy.variables import coefficients_of, mixtures, ranges_of
from tfqnas.train.optimizer import FusedSGD

MOMENTUM = 0.9


def search_training(model, task, config, on_step=None, checkpoints=None, say=print):
    """Finds the strategies of a model's layers while its weights are trained.

    The first `warmup_share` of the steps train the weights and the quantizers with equal coefficients; then the
    coefficients learn too, in the same pass, while their temperature falls and an entropy term grows; after
    `search_share` of the steps the mixtures become their best candidates, and training goes on to the end. With one
    candidate it is quantization-aware training by one strategy, with the same steps and rates.

    Args:
        model: float functional or Sequential `keras.Model`; it is the start and, with `distill`, the teacher.
        task: of tasks.py: gives batches and the loss.
        config: `TrainingSettings`.
        on_step: called with (part, share of it done, text): parts are "search" and "train".
        checkpoints: None, or `tfqnas.train.checkpoint.Checkpoints`: where it goes on if it was stopped.
        say: called with lines on damaged checkpoints.

    Returns:
        `Result`; its `losses` are the means of the last steps of each part.

    Raises:
        UserError: for a checkpoint of another model or of other settings.
        TrainingDivergedError: for a loss that is not finite.
    """
    config.check()
    return _Training(model, task, config, on_step or (lambda *_: None), checkpoints, say).run()


def fingerprint(model):
    """A short text that another model, or other weights, would not have."""
    digest = hashlib.sha256(json.dumps([[v.name, list(v.shape)] for v in model.weights]).encode())
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()[:16]


class Step:
    """One traced step of training: weights by SGD, coefficients and ranges by Adam.

    Args:
        model: Keras model with initialised quantizers. teacher: float Keras model, or None. task, config: as above.
    """

    def __init__(self, model, teacher, task, config, probabilities):
        self.model, self.teacher, self.task, self.config = model, teacher, task, config
        self.probabilities = probabilities
        self.mixtures = mixtures(model)
        self.coefficients, self.ranges = coefficients_of(model), ranges_of(model)
        own = {id(v) for q in quantizers_of(model) for v in q.variables}
        self.weights = [v for v in model.trainable_variables if id(v) not in own]
        self.optimizer = FusedSGD(config.learning_rate, momentum=MOMENTUM, nesterov=True, clipnorm=None)
        self.optimizer.build(self.weights)
        self._rate = self.optimizer.learning_rate
        self._seed = tf.constant([config.seed, 7], tf.int64)
        self._function = tf.function(self._traced, autograph=False)

    def set_temperature(self, value):
        for mixed in self.mixtures:
            mixed.temperature.assign(value)

    def __call__(self, x, y, number, learning_rate, entropy, coefficient_rate, range_rate):
        self._rate.assign(learning_rate)
        scalars = [tf.constant(v, tf.float32) for v in (entropy, coefficient_rate, range_rate)]
        return self._function(x, y, tf.constant(number, tf.int64), *scalars)

    def distributions(self):
        return [[float(a) for a in mixed.coefficients.numpy()] for mixed in self.mixtures]

    @property
    def state(self):
        """All that a checkpoint holds: `{name: variable}`."""
        named = {v.path: v for v in self.model.variables}
        named |= {f"optimizer/{number}": v for number, v in enumerate(self.optimizer.variables)}
        for part in ("coefficients", "ranges"):
            named |= {f"{part}/{name}": v for name, v in getattr(self, part).state.items()}
        return named

    def _distance(self, x, y, given):
        """Labels' loss and the teacher's, weighted."""
        share, total = self.config.distill, 0.0
        if share < 1:
            total += (1.0 - share) * self.task.loss(given, y)
        if share > 0:
            target = tf.stop_gradient(self.teacher(x, training=False))
            flat = len(given.shape) == 2
            distance = losses.kl(given, target, self.probabilities) if flat else losses.mse(given, target)
            total += share * distance
        return total

    def _traced(self, x, y, number, entropy_weight, coefficient_rate, range_rate):
        alphas, ranges = self.coefficients, self.ranges
        if self.config.noise and self.mixtures:
            uniform = tf.random.stateless_uniform(alphas.values.shape, self._seed + number, 1e-6, 1 - 1e-6)
            alphas.write(alphas.values - self.config.noise * tf.math.log(-tf.math.log(uniform)))
        groups = (self.weights, alphas.variables, ranges.variables)
        watched = [v.value for group in groups for v in group]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss = total = self._distance(x, y, self.model(x, training=True))
            if self.mixtures:
                spread = losses.entropy([mixed.coefficients for mixed in self.mixtures])
                total = loss + entropy_weight * tf.stop_gradient(loss) * spread
        slopes = tape.gradient(total, watched)
        first, second = len(self.weights), len(self.weights) + len(alphas.variables)
        of_weights = [
            g + self.config.weight_decay * v.value if "kernel" in v.name else g
            for g, v in zip(slopes[:first], self.weights, strict=True)
        ]
        self.optimizer.apply(of_weights, self.weights)
        alphas.step(slopes[first:second], coefficient_rate)
        ranges.step(slopes[second:], range_rate)
        return loss


class _Training:
    def __init__(self, model, task, config, on_step, checkpoints, say):
        self.config, self.task, self.on_step, self.checkpoints, self.say = config, task, on_step, checkpoints, say
        self.teacher = quantize(model)
        self.probabilities = gives_probabilities(self.teacher)
        self.mark = fingerprint(self.teacher)
        self.history, self.searched, self.coefficients, self.losses = [], [], [], {}

    def run(self):
        config = self.config
        images = checked(self.task.calibration(INITIAL_IMAGES, config.seed), self.teacher, 1)
        model = quantized(self.teacher, config, images)
        self.searched = searched_of(model)
        middle = round(config.train_steps * config.search_share) if self.searched else 0
        saved = self._saved()
        if middle and (saved is None or saved[1]["part"] == "search"):
            model, saved = self._part("search", model, 0, middle, saved), None
        if middle:
            if saved is None:
                self.coefficients = [m.coefficients.numpy().tolist() for m in mixtures(model)]
                model = freeze(model)
            else:  # it was frozen before: which candidate, the checkpoint knows
                places = {id(m): place for m, place in zip(mixtures(model), saved[1]["places"], strict=True)}
                model = freeze(model, best=lambda mixed: places[id(mixed)])
                self.coefficients = saved[1]["coefficients"]
        model = self._part("train", model, middle, config.train_steps, saved)
        choices = choices_of(model, self.searched, self.coefficients)
        return Result(model, choices, self.history, self.searched, self.losses)

    def _part(self, name, model, start, stop, saved):
        """Trains a model from a step to another, where a checkpoint is from that on; returns it."""
        config = self.config
        step = Step(model, self.teacher if config.distill else None, self.task, config, self.probabilities)
        if saved is not None:
            values, meta = saved
            self._restore(step, values)
            start = meta["step"]
            self.history = meta["history"]
        batches = self.task.batches(config.batch_size, start, stop, config.seed, config.flip, config.shift)
        recent = []
        first = 0 if name == "search" else round(config.train_steps * config.search_share) if self.searched else 0
        for number, (x, y) in enumerate(batches, start):
            step.set_temperature(self._temperature(number, stop))
            loss = float(step(x, y, number, *self._rates(name, number, stop)))
            if not np.isfinite(loss):
                raise TrainingDivergedError(f"step {number}: the loss is {loss}; a smaller --learning_rate may help")
            recent = [*recent[-49:], loss]
            if name == "search" and (number % max(1, stop // RECORDS) == 0 or number == stop - 1):
                self.history.append({"step": number, "loss": loss, "coefficients": step.distributions()})
            done = number + 1
            if self.checkpoints and (done % config.checkpoint_steps == 0 or done == stop):
                self._save(step, name, done)
            self.on_step(name, (done - first) / (stop - first), f"loss {np.mean(recent):.4g}")
        if step.mixtures:
            step.coefficients.write(step.coefficients.values)  # without the noise of the last step
        self.losses[name] = float(np.mean(recent)) if recent else float("nan")
        return model

    def _temperature(self, number, stop):
        config = self.config
        warm = config.warmup_share * config.train_steps
        share = min(1.0, max(0.0, (number - warm) / max(1.0, stop - warm)))
        return config.temperature_start * (config.temperature_end / config.temperature_start) ** share

    def _rates(self, name, number, stop):
        """Learning rate, entropy weight, rates of coefficients and ranges."""
        config = self.config
        decay = cosine_decay(number / config.train_steps)
        warm = config.warmup_share * config.train_steps
        searching = name == "search" and number >= warm
        share = (number - warm) / max(1.0, stop - warm) if searching else 0.0
        return (
            config.learning_rate * decay, config.entropy * share, config.coefficient_rate * searching,
            config.training_range_rate * decay,
        )  # fmt: skip

    # Checkpoints

    def _save(self, step, part, done):
        places = [int(np.argmax(a)) for a in self.coefficients]
        meta = {
            "part": part, "fingerprint": self.mark, "config": plain(self.config), "history": self.history,
            "places": places, "coefficients": self.coefficients, "candidates": self._candidates(),
        }  # fmt: skip
        self.checkpoints.save(done, {name: np.asarray(_value(v)) for name, v in step.state.items()}, meta)

    def _candidates(self):
        return {role: list(names_for(self.config, role)) for role in ("weights", "inputs")}

    def _saved(self):
        loaded = self.checkpoints.load(self.say) if self.checkpoints else None
        if loaded is None:
            return None
        where, (_, meta) = self.checkpoints.directory, loaded
        if meta["fingerprint"] != self.mark:
            raise UserError(f"{where}: its checkpoints are of another model: give that one, or another --output")
        if difference := first_difference(self.config, meta["config"]):
            name, ours, theirs = difference
            raise UserError(
                f"--{name}={ours}: the checkpoints in {where} were made with --{name}={theirs}: give the same, or "
                "another --output"
            )
        if meta["candidates"] != self._candidates():
            raise UserError(f"{where}: its checkpoints are of other candidates: give another --output")
        return loaded

    def _restore(self, step, values):
        for name, variable in step.state.items():
            value = values.get(name)
            if value is None or tuple(value.shape) != tuple(variable.shape):
                found = "none" if value is None else f"shape {value.shape}"
                raise UserError(
                    f"{self.checkpoints.directory}: its checkpoint does not fit this model: {name} has shape "
                    f"{tuple(variable.shape)}, the file holds {found}"
                )
            variable.assign(value)


def _value(variable):
    return variable.numpy() if hasattr(variable, "numpy") else keras.ops.convert_to_numpy(variable)
