"""The training tasks of float networks: classification and super-resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.data.augment import Augmentation
from tfqnas.data.dataset import load as load_data
from tfqnas.data.images import EvaluationImages
from tfqnas.data.pipeline import training_batches
from tfqnas.errors import SettingError
from tfqnas.train.optimizer import FusedSGD
from tfqnas.zoo.float_config import FloatConfig
from tfqnas.zoo.networks import build


def task_of(config: FloatConfig, say: Callable[[str], None] = print) -> Task:
    """The task of a `FloatConfig`; `say` is called with lines for the user."""
    return SuperResolution(config) if config.on_photos else Classification(config, say)


def sentence(figures: Mapping[str, Any]) -> str:
    """The figures of a task's `test` as a line of text."""
    if "accuracy" in figures:
        return f"{figures['accuracy']:.2%} of {figures['images']:,} test images right"
    return (
        f"PSNR {figures['psnr']:.2f} dB (bicubic {figures['bicubic_psnr']:.2f}), SSIM {figures['ssim']:.4f} "
        f"(bicubic {figures['bicubic_ssim']:.4f}) on Y of {figures['images']} test photos at x{figures['scale']}"
    )


def _network(config: FloatConfig, **settings: Any) -> keras.Model:
    own = {name: getattr(config, name) for name in ("filters", "blocks") if getattr(config, name)}
    return build(config.net, **own, **settings)


class Classification:
    """Classification of labelled images, trained with SGD, Nesterov momentum and weight decay.

    Args:
        config: `FloatConfig`.
        say: called with lines for the user.

    Attributes:
        model: the `keras.Model`.
        optimizer: its optimizer.
        steps: number of training steps.
        decays: whether kernels have weight decay.
        about: what a model's record says of its data, JSON data.
    """

    decays = True

    def __init__(self, config: FloatConfig, say: Callable[[str], None] = print) -> None:
        self.config = config
        self.data = load_data(config, 1, config.seed, say)
        batch, images = config.value("batch_size"), len(self.data.train)
        if batch > images:
            raise SettingError("batch_size", f"at most the {images} training images of {config.dataset}", batch)
        self.size = config.size or max(self.data.image_size)
        self.model = _network(config, num_classes=self.data.num_classes, channels=self.data.channels, size=self.size)
        self.optimizer = FusedSGD(config.value("learning_rate"), momentum=0.9, nesterov=True)
        epochs = config.value("epochs")
        self.steps = config.value("steps") or max(1, round(epochs * len(self.data.train) / config.value("batch_size")))
        self.about = {"class_names": list(self.data.class_names), "data_sha256": self.data.record.digest("train")}
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)

    def batches(self, start: int, stop: int) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """Batches `(images, labels)` of the steps from `start` to before `stop`, each a function of seed and step."""
        config = self.config
        augmentation = Augmentation(flip=config.flip, shift=config.shift)
        return iter(
            training_batches(
                self.data.train, self.size, config.value("batch_size"), config.seed, start, stop, augmentation
            )
        )

    def loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The cross entropy with smoothed labels, a scalar."""
        return self._loss(tf.one_hot(labels, self.data.num_classes), logits)

    def test(self, model: keras.Model) -> dict[str, Any]:
        """`{"accuracy", "images"}`: the accuracy on the test split and its number of images."""
        images = EvaluationImages(self.data.test, self.size, self.config.evaluation_crop)
        hits = 0
        for number, batch in enumerate(images.batches(500)):
            labels = images.labels[500 * number : 500 * (number + 1)]
            hits += int((model(batch, training=False).numpy().argmax(axis=1) == labels).sum())
        return {"accuracy": hits / len(images), "images": len(images)}


class SuperResolution:
    """Super-resolution of photos, trained with Adam and the mean absolute error as EDSR is.

    Args:
        config: `FloatConfig`.

    The attributes are those of `Classification`.
    """

    decays = False

    def __init__(self, config: FloatConfig) -> None:
        from tfqnas.data import photos

        self.config, self.steps = config, config.value("steps")
        self.photos = photos.load(config.data_dir or None)
        self.model = _network(config, scale=config.scale)
        self.about: dict[str, Any] = {}
        self.optimizer = keras.optimizers.Adam(config.value("learning_rate"))

    def batches(self, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches `(low, high)` from step `start` on, each a function of seed and step."""
        from tfqnas.data import restoration

        config = self.config
        return restoration.patches(
            self.photos.train, config.scale, config.patch, config.value("batch_size"), config.seed, start
        )

    def loss(self, found: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
        """The mean absolute error, a scalar."""
        return tf.reduce_mean(tf.abs(found - high))

    def test(self, model: keras.Model) -> dict[str, Any]:
        """Mean PSNR and SSIM on Y of the network and of bicubic interpolation over the test photos, see `score`."""
        from tfqnas.zoo.upscaling import score

        return score(model, self.photos.test)


Task = Classification | SuperResolution
