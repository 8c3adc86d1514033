"""Detection: raw outputs, such as boxes and scores of anchors, whose meaning is the user's.

The score compares them with those of another model: the float model for a quantized one, the Keras model for a file.
Training needs the user's own loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.data.data_config import FOLDER, PHOTOS, DataConfig
from tfqnas.errors import UserError
from tfqnas.tasks.base import Examples, Outputs, Task, listed, shapes_of
from tfqnas.tasks.classification import Labelled, Unlabelled, crops_of_photos, of_square_images
from tfqnas.tasks.registry import register

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# SQNR of equal outputs in dB, which would be infinite.
_LARGEST = 200.0
# Values count as alike if they differ by at most this share of the reference's range.
_ALIKE = 0.01


@register
@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """Outputs of any number and shape. Targets are the outputs of another model, or what `user_loss` takes.

    The score is the signal-to-quantization-noise ratio in dB, the mean over the outputs, so that boxes and scores count
    alike whatever their scales are.

    Args:
        probabilities: not used.
        user_loss: function of the outputs (a tensor, or a list of several) and the targets of a batch that returns the
            loss of training, a scalar; None where only another model's outputs train.
    """

    name, metric, title, unit = "detection", "sqnr", "SQNR of raw outputs", "dB"
    words = "SQNR of raw outputs"
    prediction = "raw value (to 1% of its range)"
    by_reference = True

    user_loss: Callable[[Any, Any], Any] | None = None

    @classmethod
    def suits(cls, inputs: list[tuple[int | None, ...]], outputs: list[tuple[int | None, ...]], photos: bool) -> bool:
        return len(outputs) != 1 or len(outputs[0]) not in (1, 3)

    @classmethod
    def examples(
        cls, model: keras.Model, config: DataConfig, say: Callable[[str], None] = print, **known: Any
    ) -> Examples:
        """Images without targets: of photos, of any folder, or of a labelled data set whose labels are not read."""
        if config.source == FOLDER:
            from tfqnas.data import masks
            from tfqnas.tasks.segmentation import MaskedImages

            inputs, _ = shapes_of(model)
            if len(inputs) != 1 or len(inputs[0]) != 3 or None in inputs[0] or inputs[0][2] not in (1, 3):
                received = " and ".join(map(str, inputs))
                raise UserError(
                    f"`model`: expected images of one size with 1 or 3 channels, {model.name} takes {received}"
                )
            height, width, channels = model.input_shape[1:]
            train, test = masks.find(config, with_masks=False)
            return MaskedImages(cls(), train, test, (height, width), (height, width), channels)
        size, channels = of_square_images(model)
        if config.dataset == PHOTOS:
            return _Raw(*crops_of_photos(model, config, size, channels), cls())
        from tfqnas.data.dataset import load as load_data

        dataset = load_data(config, held_out=1, say=say)
        if dataset.channels != channels:
            raise UserError(f"`model`: expects channels {channels}, {dataset.name} has {dataset.channels}")
        return _RawOfLabelled(dataset, size, config.evaluation_crop, cls())

    def tally(self, outputs: Outputs, targets: Outputs) -> np.ndarray:
        """The energy of each output of the reference, then that of each difference."""
        pairs = list(zip(listed(outputs), listed(targets), strict=True))
        flat = [[np.asarray(y, np.float64).reshape(len(y), -1) for y in pair] for pair in pairs]
        signals = [(other**2).sum(axis=1) for _, other in flat]
        noises = [((y - other) ** 2).sum(axis=1) for y, other in flat]
        return np.stack(signals + noises, axis=1)

    def score(self, tally: np.ndarray) -> np.ndarray:
        return _ratios(tally).mean(axis=1)

    def total(self, tally: np.ndarray) -> float:
        """The score of the set: energies are summed over the images first."""
        return float(self.score(tally.sum(axis=0, keepdims=True))[0])

    def by_output(self, tally: np.ndarray) -> list[float]:
        return [float(value) for value in _ratios(tally.sum(axis=0, keepdims=True))[0]]

    def alike(self, outputs: Outputs, reference: Outputs) -> np.ndarray:
        """The share of the values that differ by at most 1% of the range of their output in `reference`."""
        shares = []
        for y, other in zip(listed(outputs), listed(reference), strict=True):
            near = np.abs(np.float64(y) - other) <= _ALIKE * max(float(np.ptp(other)), 1e-12)
            shares.append(near.reshape(len(near), -1).mean(axis=1))
        return np.mean(shares, axis=0)

    def loss(self, y: Any, target: Any) -> tf.Tensor:
        if self.user_loss is None:
            raise UserError("`distill`: expected 1, since without `user_loss` only the float model can train a model")
        return self.user_loss(y, target)


def _ratios(tally: np.ndarray) -> np.ndarray:
    """float64 (n, outputs): signal to noise in dB of a tally of `Detection`."""
    signals, noises = np.split(tally, 2, axis=1)
    smallest = 10 ** (-_LARGEST / 10)
    signals = np.maximum(signals, np.finfo(np.float64).tiny / smallest)
    return 10 * np.log10(signals / np.maximum(noises, signals * smallest))


class _RawOfLabelled(Labelled):
    def _targets(self, labels: np.ndarray) -> None:
        return None


class _Raw(Unlabelled):
    def __init__(self, calibration: np.ndarray, test: np.ndarray, task: Task) -> None:
        super().__init__(calibration, test)
        self.task = task
