"""Classification: one number for each class. Data are images with labels, or photos without."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tfqnas.data.data_config import PHOTOS, DataConfig
from tfqnas.data.splits import Arrays, Split
from tfqnas.errors import UserError
from tfqnas.tasks.base import BATCH, Drop, Examples, Task, chosen, gives_probabilities, shapes_of
from tfqnas.tasks.losses import kl, log_probabilities
from tfqnas.tasks.registry import register

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfqnas.data.dataset import DataSet

# Number of crops from the training photos and from the test photos.
CROPS = 2048, 512


@register
@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Outputs (n, classes), of which the largest is the prediction. Targets are int labels (n,).

    Args:
        probabilities: whether the outputs are those of a softmax.
    """

    name, metric, title, prediction = "classification", "accuracy", "top-1", "class"
    search_loss = "kl"
    drop = Drop("max_accuracy_drop", 0.5, "largest accepted loss of top-1 accuracy, in points")

    @classmethod
    def suits(cls, inputs: list[tuple[int | None, ...]], outputs: list[tuple[int | None, ...]], photos: bool) -> bool:
        return len(outputs) == 1 and len(outputs[0]) == 1

    @classmethod
    def examples(
        cls,
        model: keras.Model,
        config: DataConfig,
        say: Callable[[str], None] = print,
        class_names: Sequence[str] | None = None,
        **known: Any,
    ) -> Examples:
        from tfqnas.data.dataset import load as load_data

        size, channels = of_images(model)
        task = cls(gives_probabilities(model))
        if config.dataset == PHOTOS:
            return Unlabelled(*crops_of_photos(model, config, size, channels), task)
        dataset = load_data(config, held_out=1, say=say).fitted(channels, model.output_shape[-1], class_names, say)
        if (own := tuple(dataset.image_size)) != (size, size):
            say(f"images of {own[0]} x {own[1]} pixels are resized to {size} x {size}, which {model.name} takes")
        return Labelled(dataset, size, config.evaluation_crop, task)

    def tally(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        right = outputs.reshape(len(outputs), -1).argmax(axis=1) == np.asarray(targets)
        return right[:, np.newaxis].astype(np.float64)

    def alike(self, outputs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        given, other = (y.reshape(len(y), -1).argmax(axis=1) for y in (outputs, reference))
        return (given == other).astype(np.float64)

    def compared(self, outputs: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
        """Whether the class is the same, the divergence of the softmax from the reference's in nats, and the cosine."""
        from scipy.special import log_softmax

        p, q = (
            np.log(np.maximum(y, 1e-12)) if self.probabilities else log_softmax(np.float64(y), axis=-1)
            for y in (reference, outputs)
        )
        norms = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
        return {
            "agreement": self.alike(outputs, reference),
            "kl": np.sum(np.exp(p) * (p - q), axis=1),
            "cosine": np.sum(np.float64(outputs) * reference, axis=1) / np.maximum(norms, 1e-12),
        }

    def loss(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Cross entropy, a scalar, of float32 (n, classes) and int labels (n,)."""
        import tensorflow as tf

        logs = log_probabilities(y, self.probabilities)
        return -tf.reduce_mean(tf.gather(logs, tf.cast(tf.reshape(target, [-1]), tf.int32), batch_dims=1))

    def distance(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        return kl(y, target, self.probabilities)

    def keras_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.SparseCategoricalAccuracy(name=self.metric)]


def agreement(outputs: np.ndarray, reference: np.ndarray, probabilities: bool = False) -> dict[str, float]:
    """The means of `Classification.compared` over images.

    Args:
        outputs, reference: float32 (n, classes), logits or, with `probabilities`, probabilities.
    """
    found = Classification(probabilities).compared(outputs, reference)
    return {name: float(np.mean(values)) for name, values in found.items()}


class Labelled(Examples):
    """Images with labels.

    Args:
        dataset: `tfqnas.data.dataset.DataSet`.
        resolution: height and width of the model's input.
        crop: fraction of a test image's shorter side that the centre crop keeps.
        task: `Classification`.
        limit: largest number of test images, or None.
    """

    def __init__(
        self, dataset: DataSet, resolution: int, crop: float = 1.0, task: Task | None = None, limit: int | None = None
    ) -> None:
        self.dataset: DataSet | None = dataset
        self.resolution, self.crop, self.task = resolution, crop, task or Classification()
        self.train, test, self.digest = dataset.train, dataset.test, dataset.record.digest("train")
        self.test = test.take(chosen(len(test), limit))

    def _split(self, name: str) -> Split:
        return self.train if name == "train" else self.test

    def count(self, split: str) -> int:
        return len(self._split(split))

    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        some = np.random.default_rng((seed, 6)).permutation(len(self.train))[:count]
        return np.asarray(_pixels(self.train.take(some), self.resolution, self.crop))

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        order = np.random.default_rng((seed, 9)).permutation(len(self.train))
        count = min(count, len(order) // 10)
        some, rest = self.train.take(order[:count]), copy.copy(self)
        rest.train = self.train.take(order[count:])
        pixels = np.asarray(_pixels(some, self.resolution, self.crop))
        return rest, pixels, np.asarray(some.labels, np.int32)

    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
        """`tf.data.Dataset` of float32 images and int32 labels."""
        from tfqnas.data.augment import Augmentation
        from tfqnas.data.pipeline import training_batches

        augmentation = Augmentation(flip=flip, shift=shift)
        return training_batches(self.train, self.resolution, batch_size, seed, start, stop, augmentation)

    def pairs(self, split: str = "test", limit: int | None = None, size: int = BATCH) -> Iterator[tuple[Any, Any]]:
        from tfqnas.data.images import EvaluationImages

        part = self._split(split)
        part = part.take(chosen(len(part), limit)) if limit is not None and limit < len(part) else part
        images = EvaluationImages(part, self.resolution, self.crop, memory=0)
        for number, batch in enumerate(images.batches(size)):
            x = np.asarray(batch)
            yield x, self._targets(images.labels[number * size : number * size + len(x)])

    def _targets(self, labels: np.ndarray) -> np.ndarray | None:
        return labels


class Unlabelled(Labelled):
    """Images without labels, for which a model is compared with the float model.

    Args:
        calibration, test: uint8 (n, size, size, channels).
        task: `Task`.
    """

    def __init__(self, calibration: np.ndarray, test: np.ndarray, task: Task | None = None) -> None:
        self.dataset: DataSet | None = None
        self.train, self.test = (Arrays(pixels, np.zeros(len(pixels), np.int32)) for pixels in (calibration, test))
        self.resolution, self.crop, self.digest = calibration.shape[1], 1.0, ""
        self.task = _WithoutLabels((task or Classification()).probabilities)

    def _targets(self, labels: np.ndarray) -> None:
        return None


class _WithoutLabels(Classification):
    def loss(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        raise UserError("`distill`: expected 1, since without labels only the float model can train a model")


def crops_of_photos(model: keras.Model, config: DataConfig, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the prepared photos for calibration and test, uint8 (n, size, size, 3)."""
    from tfqnas.data import photos

    if channels != 3:
        raise UserError(f"`dataset=photos`: expected a model of 3 channels, {model.name} takes {channels}")
    found = photos.load(config.data_dir or None)
    train, test = (
        photos.crops(split, size, count, seed)
        for seed, (split, count) in enumerate(zip((found.train, found.test), CROPS, strict=True))
    )
    return train, test


def _pixels(split: Split, resolution: int, crop: float) -> np.ndarray:
    from tfqnas.data.images import EvaluationImages, resized

    if isinstance(split, Arrays):
        return resized(split.images, resolution, crop)
    return np.concatenate(list(EvaluationImages(split, resolution, crop, memory=0).batches(256)))


def of_images(model: keras.Model) -> tuple[int, int]:
    """`(size, channels)` of the images that a classifier takes.

    Raises:
        UserError: it takes anything but square images of one size, or makes anything but one number for each class.
    """
    _, outputs = shapes_of(model)
    size, channels = of_square_images(model)
    if len(outputs) != 1 or len(outputs[0]) != 1 or None in outputs[0]:
        received = " and ".join(map(str, outputs))
        raise UserError(f"`model`: expected one number for each class, {model.name} makes {received}")
    return size, channels


def of_square_images(model: keras.Model) -> tuple[int, int]:
    """`(size, channels)` of the images that a model takes; `UserError` if they are not square or of several sizes."""
    inputs, _ = shapes_of(model)
    one: tuple[Any, ...] = inputs[0] if len(inputs) == 1 else ()
    if len(one) != 3 or None in one or one[0] != one[1]:
        received = " and ".join(map(str, inputs))
        raise UserError(f"`model`: expected square images of one size, {model.name} takes {received}")
    return one[0], one[2]
