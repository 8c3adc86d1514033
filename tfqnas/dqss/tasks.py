"""The task of a model gives calibration images, training batches, the loss and the evaluation."""

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Self

import keras
import numpy as np
import tensorflow as tf

from tfqnas.data import restoration
from tfqnas.data.augment import Augmentation
from tfqnas.data.dataset import DataSet
from tfqnas.data.images import resized
from tfqnas.data.pipeline import training_batches
from tfqnas.data.splits import Arrays, Split
from tfqnas.dqss.learner import outputs
from tfqnas.dqss.losses import log_probabilities
from tfqnas.dqss.metrics import agreement
from tfqnas.errors import UserError

# Pairs of images and their labels or target images.
Batches = Iterable[tuple[tf.Tensor, tf.Tensor]]


class Classification:
    """Images with labels.

    Args:
        dataset: `tfqnas.data.dataset.DataSet`.
        resolution: height and width of the model's input.
        crop: fraction of a test image's shorter side that the centre crop keeps.
        probabilities: whether the model's outputs are those of a softmax.
        limit: largest number of test images, or None.
    """

    metric = "accuracy"
    batch_size = 256  # for `outputs`
    # Whether BatchNorm normalises by the batch in training, or by its moving statistics.
    batch_statistics = True
    digest = ""  # of the training images, where they are known by name

    def __init__(
        self,
        dataset: DataSet,
        resolution: int,
        crop: float = 1.0,
        probabilities: bool = False,
        limit: int | None = None,
    ) -> None:
        self.dataset, self.resolution, self.crop, self.probabilities = dataset, resolution, crop, probabilities
        self.train, test, self.digest = dataset.train, dataset.test, dataset.record.digest("train")
        if limit is not None and limit < len(test):
            test = test.take(np.random.default_rng(0).permutation(len(test))[:limit])
        self.test = test

    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        """Training images without augmentation, float32 (count, resolution, resolution, channels)."""
        chosen = np.random.default_rng((seed, 6)).permutation(len(self.train))[:count]
        return np.asarray(_pixels(self.train.take(chosen), self.resolution, self.crop))

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        """`(task, x, y)`: the task without some of its training images, and these, at most a tenth of them."""
        order = np.random.default_rng((seed, 9)).permutation(len(self.train))
        count = min(count, len(order) // 10)
        chosen, rest = self.train.take(order[:count]), copy.copy(self)
        rest.train = self.train.take(order[count:])
        pixels = np.asarray(_pixels(chosen, self.resolution, self.crop))
        return rest, pixels, np.asarray(chosen.labels, np.int32)

    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Batches:
        """`tf.data.Dataset` of float32 images and int32 labels for the steps from `start` to `stop`."""
        augmentation = Augmentation(flip=flip, shift=shift)
        return training_batches(self.train, self.resolution, batch_size, seed, start, stop, augmentation)

    def loss(self, y: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross entropy, a scalar."""
        logs = log_probabilities(y, self.probabilities)
        return -tf.reduce_mean(tf.gather(logs, labels, batch_dims=1))

    def outputs(self, model: keras.Model) -> np.ndarray:
        """The outputs for the test images, float32 (n, classes)."""
        return outputs(model, np.asarray(_pixels(self.test, self.resolution, self.crop)), self.batch_size)

    def evaluate(self, model: keras.Model, reference: np.ndarray | None = None) -> dict[str, float]:
        """`{metric: value}` on the test images: accuracy and, with `reference`, agreement with the float model."""
        return self.scores(self.outputs(model), reference)

    def scores(self, given: np.ndarray, reference: np.ndarray | None = None) -> dict[str, float]:
        """The same as `evaluate`, from the outputs of a model."""
        found = {"accuracy": float(np.mean(given.argmax(1) == self.test.labels))}
        return found if reference is None else {**found, **agreement(given, reference, self.probabilities)}


def _pixels(split: Split, resolution: int, crop: float) -> np.ndarray:
    if isinstance(split, Arrays):
        return resized(split.images, resolution, crop)
    from tfqnas.data.images import EvaluationImages

    return np.concatenate(list(EvaluationImages(split, resolution, crop, memory=0).batches(256)))


class Unlabelled(Classification):
    """Images without labels, for which a model is compared with the float model.

    Args:
        calibration, test: uint8 (n, size, size, channels).
        probabilities: see `Classification`.
    """

    metric, batch_size = "agreement", 64

    def __init__(self, calibration: np.ndarray, test: np.ndarray, probabilities: bool = False) -> None:
        self.train, self.test = (Arrays(pixels, np.zeros(len(pixels), np.int32)) for pixels in (calibration, test))
        self.resolution, self.crop, self.probabilities = calibration.shape[1], 1.0, probabilities

    def loss(self, y: tf.Tensor, labels: tf.Tensor) -> NoReturn:
        """Always raises UserError: without labels, training needs `distill=1`."""
        raise UserError("`distill`: expected 1, since without labels only the float model can train a model")

    def scores(self, given: np.ndarray, reference: np.ndarray | None = None) -> dict[str, float]:
        return {} if reference is None else agreement(given, reference, self.probabilities)


class SuperResolution:
    """Photos and their smaller copies.

    Args:
        train, test: lists of uint8 (h, w, 3).
        scale: factor by which the model enlarges.
        score: function of a model and photos that returns a dict with "psnr" and "ssim" on Y, such as
            `tfqnas.zoo.upscaling.score`. None for training without evaluation.
        size: height and width of low patches, 48 as in EDSR (Lim et al., 2017, section 4.1). In smaller patches
            convolutions see mostly the border.
    """

    metric, probabilities, digest = "psnr", False, ""
    # Batch statistics add noise to images. With them SRResNet is worse than bicubic (docs/results/dqss_photos.md).
    batch_statistics = False

    def __init__(
        self,
        train: Sequence[np.ndarray],
        test: Sequence[np.ndarray],
        scale: int,
        score: Callable[..., dict[str, Any]] | None,
        size: int = 48,
    ) -> None:
        self.train, self.test, self.scale, self.score, self.size = train, test, scale, score, size

    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        """Low patches, float32 (count, size, size, 3)."""
        return next(restoration.patches(self.train, self.scale, self.size, count, seed + 1))[0]

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        """`(task, low, high)`: the task without some of its training photos, and patches of these."""
        order = np.random.default_rng((seed, 9)).permutation(len(self.train))
        parts = np.split(order, [max(1, len(order) // 8)])
        photos, others = ([self.train[number] for number in part] for part in parts)
        rest = copy.copy(self)
        rest.train = others
        return rest, *next(restoration.patches(photos, self.scale, self.size, count, seed + 2))

    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Batches:
        """Iterator of low and high patches, which are always turned and mirrored at random."""
        endless = restoration.patches(self.train, self.scale, self.size, batch_size, seed, start)
        return itertools.islice(((tf.constant(x), tf.constant(y)) for x, y in endless), stop - start)

    def loss(self, y: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        """Mean absolute error as in EDSR, a scalar."""
        return tf.reduce_mean(tf.abs(y - high))

    def outputs(self, model: keras.Model) -> dict[str, Any]:
        """The result of `score` for the test photos, which `scores` takes."""
        if self.score is None:
            raise ValueError("score: expected a function, since a task without one cannot evaluate")
        return self.score(model, self.test)

    def evaluate(self, model: keras.Model, reference: dict[str, Any] | None = None) -> dict[str, float]:
        """PSNR in dB and SSIM as means over the test photos."""
        return self.scores(self.outputs(model), reference)

    def scores(self, given: dict[str, Any], reference: dict[str, Any] | None = None) -> dict[str, float]:
        return {"psnr": given["psnr"], "ssim": given["ssim"]}


DqssTask = Classification | SuperResolution
