"""The trainings of float networks, one for each task: the network, its data, its optimizer and its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.errors import SettingError
from tfqnas.tasks import TASKS, Classification, Examples, Segmentation, SuperResolution
from tfqnas.train.optimizer import FusedSGD
from tfqnas.zoo.float_config import FloatConfig
from tfqnas.zoo.networks import build


def task_of(config: FloatConfig, say: Callable[[str], None] = print) -> FloatTask:
    """The training of a `FloatConfig`; `say` is called with lines for the user."""
    return _TRAININGS[config.task](config, say)


def sentence(figures: Mapping[str, Any]) -> str:
    """The figures of a training's `test` as a line of text."""
    if "bicubic_psnr" in figures:
        return (
            f"PSNR {figures['psnr']:.2f} dB (bicubic {figures['bicubic_psnr']:.2f}), SSIM {figures['ssim']:.4f} "
            f"(bicubic {figures['bicubic_ssim']:.4f}) on Y of {figures['images']} test photos at x{figures['scale']}"
        )
    task = next(kind for kind in TASKS.values() if kind.metric in figures)
    right = " right" if task is Classification else ""
    of = f"{task.words} of" if task.words else "of"
    return f"{figures[task.metric]:.2%} {of} {figures['images']:,} test images{right}"


class FloatTask:
    """The training of a network for a task.

    Args:
        config: `FloatConfig`.
        say: called with lines for the user.

    Attributes:
        examples: the data with their `Task`.
        model: the `keras.Model`.
        optimizer: its optimizer.
        steps: number of training steps.
        decays: whether kernels have weight decay.
        about: what a model's record says of its data, JSON data.
    """

    decays = False
    examples: Examples
    model: keras.Model
    about: Mapping[str, Any] = {}

    def __init__(self, config: FloatConfig, say: Callable[[str], None] = print) -> None:
        self.config = config
        self._open(say)
        self.optimizer: Any = keras.optimizers.Adam(config.value("learning_rate"))
        self.steps = config.value("steps") or max(1, round(config.value("epochs") * self._images / self._batch))

    def _open(self, say: Callable[[str], None]) -> None:
        """Sets `examples`, `model` and `about`."""
        raise NotImplementedError

    @property
    def _batch(self) -> int:
        return self.config.value("batch_size")

    @property
    def _images(self) -> int:
        return self.examples.count("train")

    def _network(self, **settings: Any) -> keras.Model:
        own = {name: getattr(self.config, name) for name in ("filters", "blocks") if getattr(self.config, name)}
        return build(self.config.net, **own, **settings)

    def _refuse_few(self) -> None:
        if self._batch > self._images:
            expected = f"at most the {self._images} training images of {self.config.dataset}"
            raise SettingError("batch_size", expected, self._batch)

    def batches(self, start: int, stop: int) -> Iterator[tuple[Any, Any]]:
        """Batches `(images, targets)` of the steps from `start` to before `stop`, each a function of seed and step."""
        config = self.config
        return iter(self.examples.batches(self._batch, start, stop, config.seed, config.flip, config.shift))

    def loss(self, y: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """The loss of a batch, a scalar."""
        return self.examples.task.loss(y, targets)

    def test(self, model: keras.Model) -> dict[str, Any]:
        """The score on the test split under the name of the metric, and "images", its number of images."""
        return {**self.examples.evaluate(model), "images": self.examples.count("test")}


class _OfLabels(FloatTask):
    """Classification of labelled images, trained with SGD, Nesterov momentum, weight decay and smoothed labels."""

    decays = True

    def __init__(self, config: FloatConfig, say: Callable[[str], None] = print) -> None:
        super().__init__(config, say)
        self.optimizer = FusedSGD(config.value("learning_rate"), momentum=0.9, nesterov=True)
        self._loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)

    def _open(self, say: Callable[[str], None]) -> None:
        from tfqnas.data.dataset import load as load_data
        from tfqnas.tasks.classification import Labelled

        config = self.config
        data = load_data(config, 1, config.seed, say)
        self.classes = data.num_classes
        size = config.size or max(data.image_size)
        self.examples = Labelled(data, size, config.evaluation_crop)
        self._refuse_few()
        self.model = self._network(num_classes=data.num_classes, channels=data.channels, size=size)
        self.about = {"class_names": list(data.class_names), "data_sha256": data.record.digest("train")}

    def loss(self, y: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return self._loss(tf.one_hot(targets, self.classes), y)


class _OfMasks(FloatTask):
    """Segmentation of images with masks, trained with Adam."""

    def _open(self, say: Callable[[str], None]) -> None:
        from tfqnas.data import masks
        from tfqnas.data.image_files import content, facts
        from tfqnas.tasks.segmentation import MaskedImages

        config = self.config
        train, test = masks.find(config)
        found = [facts(content(pair.image)) for pair in train]
        usual = int(np.median([max(one.height, one.width) for one in found]))
        size, channels = config.size or max(4, usual - usual % 4), max(one.channels for one in found)
        classes = masks.classes(train + test, config.ignore)
        if classes < 2:
            raise SettingError("dataset", "masks with at least two classes", config.dataset)
        say(f"{len(train) + len(test)} images with masks of {classes} classes, scaled to {size} x {size} pixels")
        self.model = self._network(num_classes=classes, channels=channels, size=size)
        task = Segmentation.of_model(self.model, config.ignore)
        self.examples = MaskedImages(task, train, test, (size, size), (size, size), channels)
        self._refuse_few()
        self.about = {"data_sha256": self.examples.digest}


class _OfPhotos(FloatTask):
    """Super-resolution of photos, trained with Adam and the mean absolute error as EDSR is."""

    def _open(self, say: Callable[[str], None]) -> None:
        from tfqnas.data import photos
        from tfqnas.tasks.super_resolution import Photos
        from tfqnas.zoo.upscaling import score

        config = self.config
        self.photos = photos.load(config.data_dir or None)
        self.examples = Photos(self.photos.train, self.photos.test, config.scale, score, config.patch)
        self.model = self._network(scale=config.scale)

    def test(self, model: keras.Model) -> dict[str, Any]:
        """Mean PSNR and SSIM on Y of the network and of bicubic interpolation over the test photos, see `score`."""
        from tfqnas.zoo.upscaling import score

        return score(model, self.photos.test)


_TRAININGS = {Classification.name: _OfLabels, Segmentation.name: _OfMasks, SuperResolution.name: _OfPhotos}
