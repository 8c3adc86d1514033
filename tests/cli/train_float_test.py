"""Training of float networks: what is learned, resumed after a kill, and refused."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.data.conftest import smooth
from tests.tasks.scenes import write_scenes
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.zoo.float_config import FloatConfig
from tfqnas.zoo.training import Training, train_float

ROOT = pathlib.Path(__file__).parents[2]
# A network of one convolution of 4 filters a block, on 8 x 8 digits.
SMALL = {"net": "resnet_small", "filters": 4, "steps": 12, "batch_size": 16, "shift": 0.1, "checkpoint_steps": 4}


def config(tmp_path, name="m", **settings):
    return FloatConfig(output=str(tmp_path / f"{name}.keras"), **{**SMALL, **settings})


def nothing(line):
    """Takes lines for the user."""


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A directory with prepared photos: smooth pictures."""
    from tests.data.conftest import encoded_as
    from tfqnas.data.photos import VERSION

    records = {"train": [(1, 40, 64), (2, 50, 44)], "test": [(3, 31, 46)]}
    index = {"version": VERSION}
    for split, wanted in records.items():
        (tmp_path / "photos" / split).mkdir(parents=True)
        index[split] = []
        for number, height, width in wanted:
            file = f"{split}/{number}.png"
            (tmp_path / "photos" / file).write_bytes(encoded_as(smooth(number, height, width)))
            index[split].append({"name": str(number), "file": file, "size": [height, width]})
    (tmp_path / "photos/index.json").write_text(json.dumps(index))
    return str(tmp_path)


def test_digits_are_learned_and_a_finished_training_is_not_done_again(tmp_path):
    settings = config(tmp_path, filters=8, steps=150, batch_size=32, shift=0.0, checkpoint_steps=1000)
    lines = []
    model, figures = train_float(settings, lines.append)
    assert figures["accuracy"] > 0.8 and figures["images"] == 397
    assert lines == [f"{settings.output}: {figures['accuracy']:.2%} of 397 test images right"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.keras"]

    again, same = train_float(settings, lines.append)
    assert same == figures and "is trained already" in lines[-1]
    x = np.zeros((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(again(x), model(x))
    with pytest.raises(UserError, match=r"m.json was made with `steps=150`, this command has `steps=12`"):
        train_float(config(tmp_path, filters=8, batch_size=32, shift=0.0), nothing)


class Killed(Exception):
    """Stands for kill -9."""


def killed_after(monkeypatch, steps):
    """The next training ends with its n-th checkpoint."""
    save, count = Training._save, []

    def saved(self, step):
        save(self, step)
        count.append(step)
        if len(count) == steps:
            monkeypatch.setattr(Training, "_save", save)
            raise Killed

    monkeypatch.setattr(Training, "_save", saved)


@pytest.mark.parametrize("kind", ["classification", "super-resolution"])
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(kind, tmp_path, photos, monkeypatch):
    settings = {}
    if kind == "super-resolution":
        settings = {"net": "srresnet", "dataset": "photos", "blocks": 1, "patch": 8, "data_dir": photos, "shift": 0.0}
    whole, figures = train_float(config(tmp_path, "whole", **settings), nothing)
    killed_after(monkeypatch, 2)
    with pytest.raises(Killed):
        train_float(config(tmp_path, "killed", **settings), nothing)
    assert not (tmp_path / "killed.keras").exists()
    with pytest.raises(UserError, match="was made with `learning_rate=0.0`, this command has `learning_rate=0.5`"):
        train_float(config(tmp_path, "killed", **settings, learning_rate=0.5), nothing)
    resumed, same = train_float(config(tmp_path, "killed", **settings), nothing)
    assert same == figures
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    if kind == "super-resolution":
        assert figures["scale"] == 2 and figures["images"] == 1 and figures["bicubic_psnr"] > 30


def test_a_loss_that_is_not_finite_ends_the_training_with_advice(tmp_path):
    with pytest.raises(TrainingDivergedError, match=r"resnet_small, step \d+ of 12, learning rate .*`learning_rate`"):
        train_float(config(tmp_path, learning_rate=1e30), nothing)
    assert not (tmp_path / "m.keras").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": "vgg"}, "net: expected one of mobilenet_small"),
        ({"net": "edsr"}, "dataset: expected photos for edsr, received digits"),
        ({"dataset": "photos"}, "dataset: expected a data set with labels, .* for resnet_small, received photos"),
        ({"epochs": 1.0}, "epochs: expected 0 with `steps=12`, received 1.0"),
        ({"net": "edsr", "dataset": "photos", "steps": 0, "epochs": 2.0}, "epochs: expected `steps` for photos"),
        ({"scale": 3}, "scale: expected 2 or 4, received 3"),
        ({"batch_size": -1}, "batch_size: expected a whole number from 0 on"),
        ({"checkpoint_steps": 0}, "checkpoint_steps: expected a whole number from 1 on"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected a number from 0 to below 1, received 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        config(tmp_path, **settings)


def test_what_zero_stands_for_depends_on_the_task():
    labels, photos = FloatConfig(), FloatConfig(net="edsr", dataset="photos")
    assert [labels.value(n) for n in ("batch_size", "learning_rate", "steps", "epochs")] == [128, 0.1, 0, 5.0]
    assert [photos.value(n) for n in ("batch_size", "learning_rate", "steps", "epochs")] == [16, 0.001, 5000, 0.0]
    assert FloatConfig(steps=7).value("epochs") == 0 and FloatConfig(batch_size=9).value("batch_size") == 9


def test_the_tool_refuses_without_a_traceback_and_before_tensorflow():
    command = [sys.executable, "tools/train_float.py", "--net=edsr", "--output=m.keras"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --dataset: expected photos for edsr") and "Traceback" not in done.stderr


@pytest.mark.parametrize("output", ["", "m.h5"])
def test_other_files_than_keras_are_refused(output):
    with pytest.raises(UserError, match=f"output: expected a .keras file, received {output or 'nothing'}"):
        train_float(FloatConfig(output=output), nothing)


def test_a_saved_network_loads_with_its_layers(tmp_path, photos):
    settings = config(tmp_path, net="edsr", dataset="photos", blocks=1, patch=8, data_dir=photos, steps=2, shift=0.0)
    model, _ = train_float(settings, nothing)
    x = np.zeros((1, 5, 6, 3), np.float32)
    np.testing.assert_array_equal(keras.saving.load_model(settings.output)(x), model(x))


def test_masks_are_learned(tmp_path):
    data = write_scenes(tmp_path / "scenes", 30)
    net = {"net": "segmenter_small", "dataset": str(data), "filters": 8, "shift": 0.0, "flip": True}
    lines = []
    _, figures = train_float(config(tmp_path, **net, steps=120, batch_size=8), lines.append)
    assert figures["miou"] > 0.6 and figures["images"] == 6
    assert lines[0] == "30 images with masks of 3 classes, scaled to 24 x 24 pixels"
    assert f"{figures['miou']:.2%} mean IoU of 6 test images" in lines[-1]
    with pytest.raises(UserError, match="batch_size: expected at most the 24 training images"):
        train_float(config(tmp_path, "b", **net, batch_size=25), nothing)
    with pytest.raises(UserError, match="dataset: expected a folder of images and masks for segmenter_small"):
        config(tmp_path, "c", net="segmenter_small")
