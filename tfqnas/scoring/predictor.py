"""Predicts accuracy from the architecture, to choose which subnets are scored. Predictions are never reported."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfqnas.records import Count, NotNegative, Share
from tfqnas.search import kendall_tau
from tfqnas.spaces import SearchSpace


@dataclasses.dataclass(frozen=True)
class Quality:
    """How well a predictor does on subnets that it was not trained on.

    Args:
        trained: number of subnets that it was trained on.
        predicted, measured: accuracies of the other subnets, measured on all images.
        tau: Kendall's tau of these two; NaN, null in a file, if all of one are equal.
        error: their mean absolute difference, a fraction.
    """

    trained: Count
    predicted: tuple[float, ...]
    measured: tuple[Share, ...]
    tau: float | None
    error: NotNegative

    def __post_init__(self) -> None:
        if len(self.predicted) != len(self.measured):
            raise ValueError(f"expected as many predicted as the {len(self.measured)} measured accuracies")

    def __str__(self) -> str:
        return (
            f"accuracy predictor, trained on {self.trained} subnets: Kendall tau {self.tau:.2f}, mean error "
            f"{100 * self.error:.2f} points on {len(self.measured)} others"
        )


class Predictor:
    """A small dense network on the one-hot code (once-for-all, Cai et al., 2020; QFA has three hidden layers of 600).

    Genes of blocks beyond the depth are all zero. Each `fit` trains from the same initial weights in the same order, so
    that the same subnets give the same predictor.

    Args:
        space: `SearchSpace`.
        hidden: widths of the hidden layers.
        epochs: passes over the subnets.
        batch_size: subnets per step.
        learning_rate: initial learning rate of Adam, with cosine decay.
        held_out: fraction of the subnets with counted accuracies on which `Quality` is measured. The final predictor is
            trained on them too.
        seed: seed of the weights and the order.
    """

    def __init__(
        self,
        space: SearchSpace,
        hidden: Sequence[int] = (128, 128, 128),
        epochs: int = 120,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        self._space, self._epochs, self._batch_size, self._held_out = space, epochs, batch_size, held_out
        self._rate, self._seed = learning_rate, seed
        dense = keras.layers.Dense
        seeds = range(seed, seed + len(hidden) + 1)
        initial = [keras.initializers.HeNormal(seed=s) for s in seeds]
        layers = [dense(n, "relu", kernel_initializer=i) for n, i in zip(hidden, initial, strict=False)]
        self._model = keras.Sequential([*layers, dense(1, kernel_initializer=initial[-1])], name="predictor")
        self._model.build((None, int(space.choice_counts.sum())))
        self._first = self._model.get_weights()
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._model.trainable_variables)
        self._fresh = [v.numpy() for v in self._optimizer.variables]
        self._mean, self._spread = 0.0, 1.0
        self._train = tf.function(self._steps, autograph=False, reduce_retracing=True)

    def fit(self, codes: np.ndarray, accuracies: ArrayLike, counted: np.ndarray | None = None) -> Quality:
        """Trains on scored subnets.

        Args:
            codes: int (m, n), m at least 2.
            accuracies: float (m,).
            counted: bool (m,), which accuracies were counted on all images, at least one. The other accuracies are
                estimates; they are used for training and not for `Quality`. None for all.

        Returns:
            `Quality`.
        """
        order = np.random.default_rng(self._seed).permutation(len(codes))
        codes, accuracies = np.asarray(codes)[order], np.asarray(accuracies, np.float64)[order]
        whole = np.flatnonzero(np.ones(len(codes), bool) if counted is None else np.asarray(counted)[order])
        out = whole[: max(1, round(self._held_out * len(whole)))]
        self._fit(np.delete(codes, out, axis=0), np.delete(accuracies, out))
        predicted, measured = self(codes[out]), accuracies[out]
        tau, error = kendall_tau(predicted, measured), float(np.abs(predicted - measured).mean())
        self._fit(codes, accuracies)
        return Quality(len(codes) - len(out), tuple(predicted.tolist()), tuple(measured.tolist()), tau, error)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """float64 (m,): predicted accuracies for codes, int (m, n)."""
        return self._mean + self._spread * np.asarray(self._model(self.features(codes)), np.float64)[:, 0]

    def features(self, codes: np.ndarray) -> np.ndarray:
        """float32 (m, choices): one-hot codes, zero for blocks beyond the depth."""
        codes = self._space.check_codes(codes, ndim=2)
        counts = self._space.choice_counts
        starts = np.cumsum(counts) - counts
        features = np.zeros((len(codes), counts.sum()), np.float32)
        np.put_along_axis(features, starts + codes, self._space.active(codes).astype(np.float32), axis=1)
        return features

    def _fit(self, codes: np.ndarray, accuracies: np.ndarray) -> None:
        self._model.set_weights(self._first)
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        self._mean, self._spread = accuracies.mean(), max(accuracies.std(), 1e-6)
        rng = np.random.default_rng(self._seed)
        batch = min(self._batch_size, len(codes))
        order = np.concatenate(
            [rng.permutation(len(codes))[: len(codes) // batch * batch].reshape(-1, batch) for _ in range(self._epochs)]
        )
        targets = np.float32((accuracies - self._mean) / self._spread)
        rates = self._rate * 0.5 * (1 + np.cos(np.pi * np.arange(len(order)) / len(order)))
        self._train(*map(tf.constant, (self.features(codes), targets, order, np.float32(rates))))

    def _steps(self, features: tf.Tensor, targets: tf.Tensor, order: tf.Tensor, rates: tf.Tensor) -> None:
        """All training steps; `order` is int64 (steps, batch)."""

        def step(number: tf.Tensor) -> tuple[tf.Tensor]:
            x, y = tf.gather(features, order[number]), tf.gather(targets, order[number])
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self._model(x, training=True)[:, 0] - y))
            self._optimizer.learning_rate.assign(rates[number])
            variables = self._model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            return (number + 1,)

        # Not a loop of Python for AutoGraph, which does not read Python 3.13.
        tf.while_loop(lambda number: number < tf.shape(order)[0], step, (0,))
