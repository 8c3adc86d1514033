"""Segmentation: a class for each pixel. Data are images with masks, PNG files of class indices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tfqnas.data.data_config import FOLDER, DataConfig
from tfqnas.errors import SettingError, UserError
from tfqnas.tasks.base import Drop, Task, gives_probabilities, shapes_of
from tfqnas.tasks.given import Numbered
from tfqnas.tasks.losses import kl, log_probabilities, of_classes
from tfqnas.tasks.registry import register
from tfqnas.tasks.super_resolution import SuperResolution

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfqnas.data.masks import Pair

# The usual value of pixels that do not count.
IGNORED = 255
# Bytes of resized images and masks that are kept in memory.
_MEMORY = 1e9


@register
@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Outputs (n, height, width, classes), of which the largest is the prediction, or (n, height, width, 1) for two.

    A single channel is the logit of class 1, or its probability. Targets are class indices, (n, height, width).

    Args:
        probabilities: whether the outputs are those of a softmax or a sigmoid.
        classes: number of classes.
        ignore: value of the pixels of a target that do not count.
    """

    name, metric, title, prediction = "segmentation", "miou", "mean IoU", "class of a pixel"
    words = "mean IoU"
    search_loss = "kl"
    drop = Drop("max_miou_drop", 0.5, "segmentation: largest accepted loss of mean IoU, in points")

    classes: int = 2
    ignore: int = IGNORED

    @classmethod
    def suits(cls, inputs: list[tuple[int | None, ...]], outputs: list[tuple[int | None, ...]], photos: bool) -> bool:
        one = len(outputs) == 1 and len(outputs[0]) == 3
        return one and not SuperResolution.suits(inputs, outputs, photos)

    @classmethod
    def examples(
        cls,
        model: keras.Model,
        config: DataConfig,
        say: Callable[[str], None] = print,
        ignore: int = IGNORED,
        **known: Any,
    ) -> MaskedImages:
        """See `Task.examples`; `ignore` is the value of pixels that do not count."""
        from tfqnas.data import masks

        task = cls.of_model(model, ignore)
        if config.source != FOLDER:
            expected = f"a folder of images and masks for {model.name}, which makes a map"
            raise SettingError("dataset", f"{expected} (`task=detection` compares raw outputs)", config.dataset)
        size, target = model.input_shape[1:3], model.output_shape[1:3]
        train, test = masks.find(config)
        return MaskedImages(task, train, test, size, target, model.input_shape[-1])

    @classmethod
    def of_model(cls, model: keras.Model, ignore: int = IGNORED) -> Segmentation:
        """The task of a model.

        Raises:
            UserError: it does not make one map from one image of a fixed size with 1 or 3 channels.
        """
        inputs, outputs = shapes_of(model)
        if len(inputs) != 1 or len(inputs[0]) != 3 or None in inputs[0] or inputs[0][2] not in (1, 3):
            received = " and ".join(map(str, inputs))
            raise UserError(f"`model`: expected images of one size with 1 or 3 channels, {model.name} takes {received}")
        if len(outputs) != 1 or len(outputs[0]) != 3 or None in outputs[0]:
            received = " and ".join(map(str, outputs))
            raise UserError(f"`model`: expected a map (height, width, classes), {model.name} makes {received}")
        return cls(gives_probabilities(model, ("softmax", "sigmoid")), max(2, int(model.output_shape[-1])), ignore)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """int (n, height, width): the class of each pixel."""
        if outputs.shape[-1] == 1:
            return (outputs[..., 0] > (0.5 if self.probabilities else 0.0)).astype(np.int64)
        return outputs.argmax(axis=-1)

    def tally(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The pixels of each class in the intersection of prediction and target, then those in the union."""
        targets = np.asarray(targets, np.int64).reshape(len(targets), -1)
        predicted = self.predictions(outputs).reshape(targets.shape)
        counts = targets != self.ignore
        wrong = counts & ((targets < 0) | (targets >= self.classes))
        if wrong.any():
            received = sorted(set(targets[wrong].tolist()))[:5]
            raise UserError(
                f"masks: expected classes from 0 to {self.classes - 1}, which the model has, or "
                f"`ignore={self.ignore}`, received {', '.join(map(str, received))}"
            )
        both = [counts & (targets == c) & (predicted == c) for c in range(self.classes)]
        either = [counts & ((targets == c) | (predicted == c)) for c in range(self.classes)]
        return np.stack([pixels.sum(axis=1) for pixels in both + either], axis=1).astype(np.float64)

    def score(self, tally: np.ndarray) -> np.ndarray:
        """The mean IoU of each image over the classes that it or its prediction has; NaN where all is ignored."""
        both, either = tally[:, : self.classes], tally[:, self.classes :]
        there = either > 0
        shares = np.where(there, both / np.maximum(either, 1), 0.0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return shares / there.sum(axis=1)

    def total(self, tally: np.ndarray) -> float:
        """The mean IoU of the set: intersections and unions are summed over the images first."""
        return float(self.score(tally.sum(axis=0, keepdims=True))[0])

    def alike(self, outputs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The share of the pixels with the same class."""
        same = self.predictions(outputs) == self.predictions(reference)
        return same.reshape(len(same), -1).mean(axis=1)

    def loss(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The mean cross entropy of the pixels that count, a scalar."""
        import tensorflow as tf

        logs = log_probabilities(of_classes(y, self.probabilities), self.probabilities)
        target = tf.reshape(tf.cast(target, tf.int32), tf.shape(y)[:-1])
        counts = tf.not_equal(target, self.ignore)
        picked = tf.gather(logs, tf.where(counts, target, 0), batch_dims=3)
        counts = tf.cast(counts, logs.dtype)
        return -tf.reduce_sum(picked * counts) / tf.maximum(tf.reduce_sum(counts), 1.0)

    def distance(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The mean divergence of the pixels' classes from those of the teacher, `losses.kl`."""
        return kl(of_classes(y, self.probabilities), of_classes(target, self.probabilities), self.probabilities)

    def keras_metrics(self) -> list[keras.metrics.Metric]:
        from tfqnas.tasks.in_keras import PixelIoU

        return [PixelIoU(self.classes, self.probabilities, self.ignore, name=self.metric)]


class MaskedImages(Numbered):
    """Images with masks in files, which are scaled to the size of a model.

    Args:
        task: `Segmentation`.
        train, test: pairs of files, see `tfqnas.data.masks`.
        size: (height, width) of the model's images, to which images are scaled.
        target: (height, width) of its outputs, to which masks are scaled by taking the nearest pixel.
        channels: 1 or 3.
    """

    unread: ClassVar = [
        (["evaluation_crop"], "on a folder of masks, whose images are scaled as a whole", "classifiers")
    ]

    def __init__(
        self,
        task: Task,
        train: list[Pair],
        test: list[Pair],
        size: tuple[int, int],
        target: tuple[int, int],
        channels: int,
    ) -> None:
        super().__init__(task, {"train": len(train), "test": len(test)})
        self.files = {"train": train, "test": test}
        self.size, self.target, self.channels = size, target, channels
        bytes_of_one = size[0] * size[1] * channels + target[0] * target[1]
        self._kept: dict[tuple[str, int], tuple[np.ndarray, np.ndarray | None]] = {}
        self._keeps = bytes_of_one * (len(train) + len(test)) < _MEMORY

    @property
    def digest(self) -> str:  # type: ignore[override]
        from tfqnas.data import masks

        return masks.digest(self.files["train"])

    def read(self, split: str, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        found = [self._one(split, int(number)) for number in numbers]
        images = np.stack([image for image, _ in found])
        targets = [mask for _, mask in found if mask is not None]
        x = (images.astype(np.float32) - 128.0) / 128.0
        return x, np.stack(targets).astype(np.int32) if targets else None

    def _one(self, split: str, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        from tfqnas.data import masks

        if (known := self._kept.get((split, number))) is not None:
            return known
        found = masks.read(self.files[split][number], self.size, self.target, self.channels)
        if self._keeps:
            self._kept[split, number] = found
        return found

    def augmented(
        self, x: np.ndarray, y: Any, flip: bool, shift: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, Any]:
        """Mirrored and shifted images and masks. Shifts are whole pixels of the mask, and edges are repeated."""
        steps = [size // target for size, target in zip(self.size, self.target, strict=True)]
        most = [int(shift * length) for length in self.target]
        made = []
        for image, mask in zip(x, y, strict=True):
            dy, dx = (int(rng.integers(-n, n + 1)) for n in most)
            image, mask = _shifted(image, dy * steps[0], dx * steps[1]), _shifted(mask, dy, dx)
            turn = flip and rng.random() < 0.5
            made.append((image[:, ::-1], mask[:, ::-1]) if turn else (image, mask))
        return np.stack([image for image, _ in made]), np.stack([mask for _, mask in made])


def _shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    rows = np.clip(np.arange(image.shape[0]) - dy, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - dx, 0, image.shape[1] - 1)
    return image[rows][:, columns]
