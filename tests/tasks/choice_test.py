"""From a model and a data set to the task, and what does not fit."""

import keras
import numpy as np
import pytest

from tests.dqss.conftest import network
from tfqnas.data import photos
from tfqnas.data.data_config import DataConfig
from tfqnas.errors import UserError
from tfqnas.layers import DepthToSpace
from tfqnas.tasks import classification, examples_of
from tfqnas.tasks.classification import Labelled, Unlabelled
from tfqnas.tasks.super_resolution import Photos


def enlarging(scale=2):
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3 * scale**2, 3, padding="same")(images)
    return keras.Model(images, DepthToSpace(scale)(x), name="larger")


@pytest.fixture
def photographs(rng, monkeypatch):
    made = [rng.integers(0, 256, (96, 100, 3)).astype(np.uint8) for _ in range(3)]
    monkeypatch.setattr(photos, "load", lambda data_dir=None: photos.Photos(made[:2], made[2:]))
    monkeypatch.setattr(classification, "CROPS", (6, 4))
    return made


def test_a_classifier_of_a_labelled_data_set():
    task = examples_of(network(classes=10), DataConfig())
    assert isinstance(task, Labelled) and task.task.metric == "accuracy" and task.calibration(3).shape == (3, 8, 8, 1)


def test_a_classifier_of_photographs_is_compared_with_itself(photographs):
    task = examples_of(network(16, 3), DataConfig(dataset="photos"))
    assert isinstance(task, Unlabelled) and task.calibration(5).shape == (5, 16, 16, 3) and len(task.test) == 4
    with pytest.raises(UserError, match="expected a model of 3 channels, tiny takes 1"):
        examples_of(network(), DataConfig(dataset="photos"))


def test_a_model_that_makes_images_is_for_super_resolution(photographs):
    seen = []

    def score(model, images):
        seen.append((model.name, len(images)))
        return {"psnr": 30.0, "ssim": 0.9, "bicubic_psnr": 29.0}

    model = enlarging()
    task = examples_of(model, DataConfig(dataset="photos"), score=score)
    assert isinstance(task, Photos) and task.scale == 2
    assert task.evaluate(model) == {"psnr": 30.0, "ssim": 0.9} and seen == [("larger", 1)]
    low, high = next(iter(task.batches(4, 0, 2)))
    assert low.shape == (4, 48, 48, 3) and high.shape == (4, 96, 96, 3)
    np.testing.assert_allclose(task.task.loss(high + 0.5, high), 0.5, rtol=1e-6)
    with pytest.raises(UserError, match="dataset: expected photos for larger, which makes images, received digits"):
        examples_of(model, DataConfig())


def oblong():
    layers = [keras.Input((8, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential(layers, name="oblong")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (network, "`model`: expects classes 4, digits has 10"),
        (lambda: network(channels=3, classes=10), "`model`: expects channels 3, digits has 1"),
        (oblong, r"expected square images of one size, oblong takes \(8, 4, 1\)"),
    ],
)
def test_a_model_of_other_images_is_refused(model, expected):
    with pytest.raises(UserError, match=expected):
        examples_of(model(), DataConfig())
