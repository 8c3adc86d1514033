"""Chooses the task for a model and a data set."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.data import photos
from tfqnas.data.data_config import DataConfig
from tfqnas.data.dataset import load as load_data
from tfqnas.dqss.post_training import gives_probabilities
from tfqnas.dqss.tasks import Classification, DqssTask, SuperResolution, Unlabelled
from tfqnas.errors import SettingError, UserError
from tfqnas.graph.classifying import of_images

# Number of crops for classifiers, from the training photos and from the test photos.
CROPS = 2048, 512


def task_of(
    model: keras.Model,
    config: DataConfig,
    score: Callable[..., dict[str, Any]] | None = None,
    say: Callable[[str], None] = print,
    class_names: Sequence[str] | None = None,
) -> DqssTask:
    """The task of a model with a data set.

    Args:
        model: Keras model that makes vectors or larger images from images.
        config: `DataConfig`. The data set "photos" is for super-resolution, and without labels for classifiers with 3
            channels.
        score: function for super-resolution, see `tasks.SuperResolution`.
        say: called with lines for the user.
        class_names: names of the model's classes in its order, if they are known.

    Raises:
        UserError: if the data set has other images or other classes than the model.
    """
    if len(model.outputs) == 1 and len(model.output_shape) == 4:
        if config.dataset != photos.NAME:
            raise SettingError("dataset", f"photos for {model.name}, which makes images", config.dataset)
        found = photos.load(config.data_dir or None)
        return SuperResolution(found.train, found.test, enlarges(model), score)
    size, channels = of_images(model)
    probabilities = gives_probabilities(model)
    if config.dataset == photos.NAME:
        if channels != 3:
            raise UserError(f"`dataset=photos`: expected a model of 3 channels, {model.name} takes {channels}")
        found = photos.load(config.data_dir or None)
        train, test = (
            photos.crops(split, size, count, seed)
            for seed, (split, count) in enumerate(zip((found.train, found.test), CROPS, strict=True))
        )
        return Unlabelled(train, test, probabilities)
    dataset = load_data(config, held_out=1, say=say).fitted(channels, model.output_shape[-1], class_names, say)
    if (own := tuple(dataset.image_size)) != (size, size):
        say(f"images of {own[0]} x {own[1]} pixels are resized to {size} x {size}, which {model.name} takes")
    return Classification(dataset, size, config.evaluation_crop, probabilities)


def enlarges(model: keras.Model) -> int:
    """The factor by which a model enlarges images."""
    low = np.zeros((1, *(n or 8 for n in model.input_shape[1:3]), model.input_shape[-1]), np.float32)
    return int(model(low).shape[1] // low.shape[1])
