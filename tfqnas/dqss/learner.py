"""Learns coefficients and quantizers in traced steps, against the outputs of the float model."""

import functools
import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfqnas.dqss import losses
from tfqnas.dqss.variables import candidates_in, coefficients_of, mixtures, ranges_of
from tfqnas.graph.keras_internals import is_called_once
from tfqnas.quantizers import quantizers_of
from tfqnas.tasks.base import listed

# A logit that makes a softmax one-hot at any temperature of a search.
ONE_HOT = 1e4


def batches_of(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless int arrays (size,), the indices of the images of each step's batch, in a new order for each epoch."""
    rng = np.random.default_rng((seed, 3))
    while True:
        order = rng.permutation(count)
        for first in range(0, count - size + 1, size):
            yield order[first : first + size]


def cosine_decay(share: float) -> float:
    """Cosine decay from 1 to 0 as the share of completed steps grows from 0 to 1."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))


class Targets:
    """The float model's outputs for the calibration images, kept or, for the loss "features", computed in each step.

    Args:
        teacher: Keras model.
        student: Keras model with layers of the same names.
        loss: a name of `losses.of_name`.
        images: float32 (n, height, width, channels).
        batch_size: images at once when the outputs are computed.
        kept: the `kept` of another `Targets` of the same teacher, or None.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        loss: str,
        images: np.ndarray,
        batch_size: int,
        kept: list[np.ndarray] | None = None,
    ) -> None:
        self.images = images
        names = taps_of(teacher, student) if loss == "features" else []
        self.student = with_taps(student, names)
        self.teacher = with_taps(teacher, names) if names else None
        self.names = names
        self.kept = None if names else outputs(teacher, images, batch_size) if kept is None else kept

    def of(self, numbers: np.ndarray) -> list[tf.Tensor]:
        """The outputs, float32 tensors, of the images with these indices, or `[]` if the step computes them."""
        return [] if self.kept is None else [tf.constant(y[numbers]) for y in self.kept]

    def again(self, x: tf.Tensor, targets: list[tf.Tensor]) -> list[tf.Tensor]:
        """The targets of the images `x` within a traced step, computed if they are not kept."""
        return targets if self.teacher is None else [tf.stop_gradient(t) for t in listed(self.teacher(x))]


def taps_of(teacher: keras.Model, student: keras.Model, most: int = 12) -> list[str]:
    """Up to `most` evenly spaced layers whose outputs are compared: sums, else activations, else convolutions."""
    shared = {layer.name for layer in student.layers}
    known = [layer for layer in teacher.layers[:-1] if layer.name in shared and is_called_once(layer)]
    for kinds in (("Add",), ("ReLU", "Activation"), ("Conv2D", "Dense")):
        names = [layer.name for layer in known if type(layer).__name__ in kinds]
        if len(names) >= 3:
            break
    if not names:
        return []
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[place] for place in places]


def with_taps(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """The model with a list of outputs, those of these layers before its own ones; without names the model itself."""
    if not names:
        return model
    return keras.Model(model.inputs, [*(model.get_layer(name).output for name in names), *model.outputs])


def outputs(model: keras.Model, images: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """float32 outputs of a Keras model for images, a list of its outputs, computed eagerly in batches."""
    parts = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    found = [[np.asarray(y) for y in listed(model(part, training=False))] for part in parts]
    return [np.concatenate(own) for own in zip(*found, strict=True)]


class Learner:
    """Learns coefficients and parameters of a model's quantizers, while weights and BatchNorm stay as they are.

    Args:
        model: Keras model with initialised quantizers.
        targets: `Targets` with that model as its student.
        loss: a name of `losses.of_name`.
        probabilities: whether the outputs are those of a softmax.
        seed: seed of the noise on coefficients.
    """

    def __init__(self, model: keras.Model, targets: Targets, loss: str, probabilities: bool, seed: int = 0) -> None:
        self.model, self.targets = model, targets
        self.mixtures = mixtures(model)
        self.coefficients, self.ranges = coefficients_of(model), ranges_of(model)
        self._parameters = [v for q in quantizers_of(model) for one in candidates_in(q) for v in one.variables]
        self._distance = losses.of_name(loss, probabilities, len(model.outputs))
        self._seed = tf.constant([seed, 5], tf.int64)
        self._steps = tf.Variable(0, dtype=tf.int64)
        # With `partial`, TensorFlow counts the traces of each model by itself, and does not warn of retracing.
        self._step = tf.function(functools.partial(self._traced_step), autograph=False)
        self._loss = tf.function(functools.partial(self._traced_loss), autograph=False)

    def set_temperature(self, value: float) -> None:
        for mixed in self.mixtures:
            mixed.temperature.assign(value)

    @property
    def learns(self) -> bool:
        """Whether there is anything to learn. Quantizers that are only calibrated have no parameters."""
        return bool(self.coefficients.variables or self.ranges.variables)

    def step(
        self,
        numbers: np.ndarray,
        entropy: float = 0.0,
        coefficient_rate: float = 0.0,
        range_rate: float = 0.0,
        noise: float = 0.0,
    ) -> tf.Tensor:
        """Learns from the images with these indices, and returns the loss without its entropy term.

        Args:
            numbers: int (n,), indices of images.
            entropy: weight of the entropy term, as a share of the loss.
            coefficient_rate, range_rate: learning rates of coefficients and of quantizers' parameters.
            noise: factor of the Gumbel noise on the coefficients.
        """
        x = tf.constant(self.targets.images[numbers])
        rates = [tf.constant(v, tf.float32) for v in (entropy, coefficient_rate, range_rate, noise)]
        return self._step(x, self.targets.of(numbers), *rates)

    def largest(self) -> list[int]:
        """For each mixture the index of its largest coefficient."""
        return [mixed.best for mixed in self.mixtures]

    def loss(self, numbers: np.ndarray, batch_size: int, bound: float = np.inf) -> float:
        """The mean loss over the images with these indices, or infinity once it is certain to exceed the bound."""
        total = 0.0
        for i in range(0, len(numbers), batch_size):
            some = numbers[i : i + batch_size]
            total += len(some) * float(self._loss(tf.constant(self.targets.images[some]), self.targets.of(some)))
            if total > bound * len(numbers):  # losses are not negative
                return np.inf
        return total / len(numbers)

    def open(self, places: Sequence[int], lead: float) -> None:
        """Sets the logits of each mixture to `lead` for the candidate at its index in `places`, and to 0 for others."""
        for mixed, place in zip(self.mixtures, places, strict=True):
            mixed.alpha.assign(lead * np.eye(len(mixed.candidates), dtype=np.float32)[place])
        self.coefficients.read()

    def choose(self, places: Sequence[int]) -> None:
        """Makes the coefficients one-hot, with the index of one candidate for each mixture in `places`."""
        self.open(places, ONE_HOT)

    def state(self) -> list[np.ndarray]:
        """The learned and calibrated parameters of all quantizers, as a list of arrays."""
        return [v.numpy() for v in self._parameters]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Takes the values of a `state`, and resets the moments of Adam."""
        for variable, value in zip(self._parameters, state, strict=True):
            variable.assign(value)
        self.ranges.read()
        self.ranges.restart(self.ranges.values)

    def distributions(self) -> list[list[float]]:
        """A list of the coefficients of each mixture."""
        return [[float(a) for a in mixed.coefficients.numpy()] for mixed in self.mixtures]

    def _distances(self, x: tf.Tensor, targets: list[tf.Tensor]) -> tf.Tensor:
        return self._distance(listed(self.targets.student(x, training=False)), self.targets.again(x, targets))

    def _traced_loss(self, x: tf.Tensor, targets: list[tf.Tensor]) -> tf.Tensor:
        return self._distances(x, targets)

    def _traced_step(
        self,
        x: tf.Tensor,
        targets: list[tf.Tensor],
        entropy_weight: tf.Tensor,
        coefficient_rate: tf.Tensor,
        range_rate: tf.Tensor,
        noise: tf.Tensor,
    ) -> tf.Tensor:
        alphas, ranges = self.coefficients, self.ranges
        if self.mixtures:
            uniform = tf.random.stateless_uniform(
                alphas.values.shape, self._seed + tf.stack([0, self._steps.read_value()]), 1e-6, 1 - 1e-6
            )
            alphas.write(alphas.values - noise * tf.math.log(-tf.math.log(uniform)))
            self._steps.assign_add(1)
        watched = [v.value for v in [*alphas.variables, *ranges.variables]]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            loss = total = self._distances(x, targets)
            if self.mixtures:
                spread = losses.entropy([mixed.coefficients for mixed in self.mixtures])
                total = loss + entropy_weight * tf.stop_gradient(loss) * spread
        slopes = tape.gradient(total, watched)
        count = len(alphas.variables)
        alphas.step(slopes[:count], coefficient_rate)
        ranges.step(slopes[count:], range_rate)
        return loss
