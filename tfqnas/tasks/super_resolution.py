"""Super-resolution: larger images from images. Data are photos and their smaller copies."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tfqnas.data import restoration
from tfqnas.data.data_config import PHOTOS, DataConfig
from tfqnas.errors import SettingError
from tfqnas.tasks.base import BATCH, Drop, Examples, Task
from tfqnas.tasks.registry import register

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@register
@dataclasses.dataclass(frozen=True)
class SuperResolution(Task):
    """Outputs float32 (n, height, width, 3), `(x - 128) / 128`. Targets are images of the same shape.

    Args:
        probabilities: False.
        scale: factor by which the model enlarges, the width of the border that the score leaves out.
    """

    name, metric, title, unit, prediction = "super_resolution", "psnr", "PSNR", "dB", "pixel value"
    words = "PSNR"
    search_loss = "luma"
    makes_images = True
    drop = Drop("max_psnr_drop", 0.05, "super-resolution: largest accepted loss of PSNR on Y, in dB")
    # Batch statistics add noise to images. With them SRResNet is worse than bicubic (docs/results/dqss_photos.md).
    batch_statistics = False

    scale: int = 1

    @classmethod
    def suits(cls, inputs: list[tuple[int | None, ...]], outputs: list[tuple[int | None, ...]], photos: bool) -> bool:
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]) != 3 or len(outputs[0]) != 3:
            return False
        (low, _, _), (high, _, channels) = inputs[0], outputs[0]
        larger = low is not None and high is not None and high > low
        return channels == 3 and (photos or larger or low is None)

    @classmethod
    def examples(
        cls,
        model: keras.Model,
        config: DataConfig,
        say: Callable[[str], None] = print,
        score: Callable[..., dict[str, Any]] | None = None,
        **known: Any,
    ) -> Examples:
        """See `Task.examples`; `score` is that of `Photos`."""
        from tfqnas.data import photos

        if config.dataset != PHOTOS:
            raise SettingError("dataset", f"photos for {model.name}, which makes images", config.dataset)
        found = photos.load(config.data_dir or None)
        return Photos(found.train, found.test, enlarges(model), score)

    def tally(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """PSNR on Y of each image in dB; `outputs` and `targets` are normalised, or targets are uint8."""
        high = targets if np.asarray(targets).dtype == np.uint8 else pixels_of(targets)
        values = [restoration.psnr_y(*pair, border=self.scale) for pair in zip(pixels_of(outputs), high, strict=True)]
        return np.array(values, np.float64)[:, np.newaxis]

    def alike(self, outputs: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """The share of the 8-bit values that are the same."""
        same = pixels_of(outputs) == pixels_of(reference)
        return same.reshape(len(same), -1).mean(axis=1)

    def compared(self, outputs: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def loss(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Mean absolute error as in EDSR (Lim et al., 2017), a scalar."""
        import tensorflow as tf

        return tf.reduce_mean(tf.abs(y - target))


def pixels_of(x: np.ndarray) -> np.ndarray:
    """Normalised images as uint8."""
    return np.clip(np.rint(np.asarray(x, np.float64) * 128.0 + 128.0), 0, 255).astype(np.uint8)


class Photos(Examples):
    """Photos and their smaller copies.

    Args:
        train, test: lists of uint8 (h, w, 3).
        scale: factor by which the model enlarges.
        measure: function of a model and photos that returns a dict with "psnr" and "ssim" on Y, such as
            `tfqnas.zoo.upscaling.score`. None for training without evaluation.
        size: height and width of low patches, 48 as in EDSR (Lim et al., 2017, section 4.1). In smaller patches
            convolutions see mostly the border.
    """

    unread: ClassVar = [
        (["flip", "shift"], "on photos, whose patches are always turned and mirrored", "classifiers"),
        (["norm_images"], "on super-resolution, where BatchNorm keeps its statistics", "classifiers"),
    ]

    def __init__(
        self,
        train: Sequence[np.ndarray],
        test: Sequence[np.ndarray],
        scale: int,
        measure: Callable[..., dict[str, Any]] | None,
        size: int = 48,
    ) -> None:
        self.train, self.test, self.scale, self.measure, self.size = train, test, scale, measure, size
        self.task = SuperResolution(scale=scale)

    def count(self, split: str) -> int:
        return len(self.train if split == "train" else self.test)

    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        """Low patches, float32 (count, size, size, 3)."""
        return next(restoration.patches(self.train, self.scale, self.size, count, seed + 1))[0]

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        """`(examples, low, high)`: the examples without some of the training photos, and patches of these."""
        order = np.random.default_rng((seed, 9)).permutation(len(self.train))
        parts = np.split(order, [max(1, len(order) // 8)])
        photos, others = ([self.train[number] for number in part] for part in parts)
        rest = copy.copy(self)
        rest.train = others
        return rest, *next(restoration.patches(photos, self.scale, self.size, count, seed + 2))

    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
        """Iterator of low and high patches, which are always turned and mirrored at random."""
        import tensorflow as tf

        endless = restoration.patches(self.train, self.scale, self.size, batch_size, seed, start)
        return itertools.islice(((tf.constant(x), tf.constant(y)) for x, y in endless), stop - start)

    def pairs(self, split: str = "test", limit: int | None = None, size: int = BATCH) -> Iterator[tuple[Any, Any]]:
        """Patches of the photos, one of each: float32 (n, size, size, 3), and larger ones in the same form."""
        photos = self.train if split == "train" else self.test
        for photo in photos[:limit]:
            yield next(restoration.patches([photo], self.scale, self.size, 1, 0))

    def evaluate(
        self, model: keras.Model, reference: keras.Model | None = None, split: str = "test"
    ) -> dict[str, float]:
        """PSNR in dB and SSIM as means over whole photos."""
        if self.measure is None:
            raise ValueError("measure: expected a function, since examples without one cannot evaluate")
        found = self.measure(model, self.train if split == "train" else self.test)
        return {"psnr": found["psnr"], "ssim": found["ssim"]}


def enlarges(model: keras.Model) -> int:
    """The factor by which a model enlarges images."""
    low = np.zeros((1, *(n or 8 for n in model.input_shape[1:3]), model.input_shape[-1]), np.float32)
    return int(model(low).shape[1] // low.shape[1])
