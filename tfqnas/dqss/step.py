"""A traced step of quantization-aware training, which updates weights, coefficients and ranges together."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.dqss import losses
from tfqnas.dqss.learner import ONE_HOT
from tfqnas.dqss.quantize_settings import TrainingSettings
from tfqnas.dqss.recalibration import without_dropout
from tfqnas.dqss.variables import candidates_in, coefficients_of, mixtures, ranges_of
from tfqnas.quantizers import Quantizer, quantizers_of
from tfqnas.tasks import Task
from tfqnas.train.optimizer import FusedSGD

MOMENTUM = 0.9


class Step:
    """A traced step of training, with SGD for weights and Adam for coefficients and ranges.

    Args:
        model: Keras model with initialised quantizers.
        teacher: float Keras model, or None.
        task: `Task` with the losses.
        config: `TrainingSettings`.
    """

    def __init__(self, model: keras.Model, teacher: keras.Model | None, task: Task, config: TrainingSettings) -> None:
        self.model, self.teacher, self.task, self.config = model, teacher, task, config
        self.mixtures = mixtures(model)
        self.coefficients, self.ranges = coefficients_of(model), ranges_of(model)
        self._moving = [v for v in model.non_trainable_variables if "moving_" in v.name]
        own = {id(v) for q in quantizers_of(model) for v in q.variables}
        self.weights = [v for v in model.trainable_variables if id(v) not in own]
        self.optimizer = FusedSGD(config.learning_rate, momentum=MOMENTUM, nesterov=True, clipnorm=None)
        self.optimizer.build(self.weights)
        self._rate = self.optimizer.learning_rate
        self._seed = tf.constant([config.seed, 7], tf.int64)
        self._function = tf.function(self._traced, autograph=False)
        self._loss = tf.function(self._traced_loss, autograph=False)

    def set_temperature(self, value: float) -> None:
        for mixed in self.mixtures:
            mixed.temperature.assign(value)

    def __call__(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        number: int,
        learning_rate: float,
        entropy: float,
        coefficient_rate: float,
        range_rate: float,
        noise: float,
    ) -> tf.Tensor:
        self._rate.assign(learning_rate)
        scalars = [tf.constant(v, tf.float32) for v in (entropy, coefficient_rate, range_rate, noise)]
        return self._function(x, y, tf.constant(number, tf.int64), *scalars)

    def loss(self, batches: Sequence[tuple[tf.Tensor, tf.Tensor]], bound: float = np.inf) -> float:
        """The mean loss over `(x, y)` batches of one size, or infinity once it is certain to exceed `bound`.

        BatchNorm normalises as in training, since moving statistics lag behind the weights.
        """
        kept, total = [v.numpy() for v in self._moving], 0.0
        for x, y in batches:
            total += float(self._loss(x, y))
            if total > bound * len(batches):  # losses are not negative
                total = np.inf
                break
        for variable, value in zip(self._moving, kept, strict=True):
            variable.assign(value)
        return total / len(batches)

    def choose(self, places: Sequence[int]) -> None:
        """Makes the coefficients one-hot, with the index of one candidate for each mixture in `places`."""
        for mixed, place in zip(self.mixtures, places, strict=True):
            mixed.alpha.assign(ONE_HOT * np.eye(len(mixed.candidates), dtype=np.float32)[place])
        self.coefficients.read()

    @property
    def signs(self) -> list[bool | None]:
        """Whether each quantizer, including candidates, is signed. Checkpoints keep this, since it is no variable."""
        return [one.signed for one in self._candidates()]

    def decide(self, signs: Sequence[bool | None]) -> None:
        """Sets the `signs` from a checkpoint."""
        for one, signed in zip(self._candidates(), signs, strict=True):
            if signed is not None and one.signed != signed:
                one.decide(signed)

    def _candidates(self) -> list[Quantizer]:
        return [one for quantizer in quantizers_of(self.model) for one in candidates_in(quantizer)]

    def distributions(self) -> list[list[float]]:
        return [[float(a) for a in mixed.coefficients.numpy()] for mixed in self.mixtures]

    def snapshot(self) -> dict[str, np.ndarray]:
        """The values of `state`: `{name: array}`."""
        return {name: value_of(v) for name, v in self.state.items()}

    @property
    def state(self) -> dict[str, Any]:
        """`{name: variable}` of everything in a checkpoint."""
        weights = {id(v) for v in self.model.weights}
        # The paths of dropout's seeds depend on how many models the process has made.
        others = [v for v in self.model.variables if id(v) not in weights]
        named = {v.path: v for v in self.model.weights} | {f"seeds/{number}": v for number, v in enumerate(others)}
        named |= {f"optimizer/{number}": v for number, v in enumerate(self.optimizer.variables)}
        for part in ("coefficients", "ranges"):
            named |= {f"{part}/{name}": v for name, v in getattr(self, part).state.items()}
        return named

    def _distance(self, x: tf.Tensor, y: tf.Tensor, given: tf.Tensor) -> tf.Tensor:
        """The weighted sum of the loss against labels and the loss against the teacher."""
        share, total = self.config.distill, 0.0
        if share < 1:
            total += (1.0 - share) * self.task.loss(given, y)
        if share > 0 and self.teacher is not None:
            target = tf.nest.map_structure(tf.stop_gradient, self.teacher(x, training=False))
            total += share * self.task.distance(given, target)
        return total

    def _traced_loss(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with without_dropout(self.model):
            return self._distance(x, y, self.model(x, training=self.task.batch_statistics))

    def _traced(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        number: tf.Tensor,
        entropy_weight: tf.Tensor,
        coefficient_rate: tf.Tensor,
        range_rate: tf.Tensor,
        noise: tf.Tensor,
    ) -> tf.Tensor:
        alphas, ranges = self.coefficients, self.ranges
        if self.mixtures:
            uniform = tf.random.stateless_uniform(alphas.values.shape, self._seed + number, 1e-6, 1 - 1e-6)
            alphas.write(alphas.values - noise * tf.math.log(-tf.math.log(uniform)))
        groups = (self.weights, alphas.variables, ranges.variables)
        watched = [v.value for group in groups for v in group]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss = total = self._distance(x, y, self.model(x, training=self.task.batch_statistics))
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


def value_of(variable: Any) -> np.ndarray:
    """numpy array of a Keras or TensorFlow variable."""
    return np.array(variable.numpy() if hasattr(variable, "numpy") else keras.ops.convert_to_numpy(variable))
