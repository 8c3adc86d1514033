"""Segmentation: its score and loss by hand, its folder of images and masks, and a small network trained on it."""

import keras
import numpy as np
import pytest
from PIL import Image

from tests.tasks.scenes import network, write_scenes
from tfqnas import LSQ, initialize, quantize
from tfqnas.data import masks
from tfqnas.errors import UserError
from tfqnas.runs.model_files import load_model
from tfqnas.tasks import Segmentation, TaskConfig, examples_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "data")


@pytest.fixture(scope="module")
def trained(folder):
    keras.utils.set_random_seed(0)
    model = network()
    examples = examples_of(model, TaskConfig(dataset=str(folder)))
    model.compile(keras.optimizers.Adam(0.01), examples.task.keras_loss(), metrics=examples.task.keras_metrics())
    x, y = examples.read("train", np.arange(32))
    history = model.fit(x, y, batch_size=8, epochs=12, verbose=0)
    return model, examples, history.history


def test_the_score_of_an_image_and_that_of_the_set_by_hand():
    task = Segmentation(classes=3, ignore=9)
    targets = np.array([[[0, 0], [1, 9]], [[0, 0], [0, 0]]])
    outputs = np.eye(3)[np.array([[[0, 1], [1, 2]], [[0, 0], [0, 0]]])]
    tally = task.tally(outputs, targets)
    np.testing.assert_array_equal(tally, [[1, 1, 0, 2, 2, 0], [4, 0, 0, 4, 0, 0]])
    np.testing.assert_allclose(task.score(tally), [0.5, 1.0])
    assert task.total(tally) == pytest.approx((5 / 6 + 1 / 2) / 2)  # class 2 is nowhere
    assert np.isnan(task.score(task.tally(outputs[:1], np.full((1, 2, 2), 9)))[0])
    np.testing.assert_allclose(task.alike(outputs, np.roll(outputs, 1, axis=0)), [0.25, 0.25])
    with pytest.raises(UserError, match="expected classes from 0 to 2, .* or `ignore=9`, received 7"):
        task.tally(outputs[:1], np.full((1, 2, 2), 7))


@pytest.mark.parametrize("probabilities", [False, True])
def test_one_channel_means_two_classes(probabilities):
    logits = np.array([[[[2.0], [-1.0]]]], np.float32)
    y = 1 / (1 + np.exp(-logits)) if probabilities else logits
    task = Segmentation(probabilities, classes=2)
    np.testing.assert_array_equal(task.predictions(y), [[[1, 0]]])
    expected = -np.mean(np.log([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))]))
    assert float(task.loss(y, np.array([[[1, 0]]]))) == pytest.approx(expected, rel=1e-5)
    assert float(task.loss(y, np.array([[[1, 255]]]))) == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)
    assert float(task.distance(y, y)) == pytest.approx(0, abs=1e-6)


def test_a_small_network_learns_and_its_metric_is_the_score(trained):
    model, examples, history = trained
    assert history["miou"][-1] > 0.8 > history["miou"][0]
    x, y = examples.read("train", np.arange(32))
    task = examples.task
    metric = task.keras_metrics()[0]
    metric.update_state(y, model(x))
    assert task.total(task.tally(np.asarray(model(x)), y)) == pytest.approx(float(metric.result()), rel=1e-5)


def test_a_compiled_model_is_saved_with_its_task(trained, tmp_path):
    model, examples, _ = trained
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    x, y = examples.read("test", np.arange(8))
    found, expected = (m.evaluate(x, y, batch_size=8, verbose=0) for m in (again, model))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_quantized_network_keeps_the_score(trained):
    model, examples, _ = trained
    small = quantize(model, weights=LSQ(8), inputs=LSQ(8, signed=None), integer_aware=True)
    initialize(small, examples.calibration(16))
    found, before = examples.evaluate(small, model), examples.evaluate(model)
    assert set(found) == {"miou", "agreement"} and found["agreement"] > 0.97
    assert found["miou"] == pytest.approx(before["miou"], abs=0.03)


def test_examples_are_the_folders(trained, folder):
    _, examples, _ = trained
    assert (examples.count("train"), examples.count("test")) == (32, 8)
    x, y = next(iter(examples.pairs("test", limit=3)))
    assert x.shape == (3, 24, 24, 3) and y.shape == (3, 24, 24) and set(np.unique(y)) == {0, 1, 2, 255}
    plain = [np.asarray(part) for part in next(iter(examples.batches(32, 0, 1)))]
    turned = [np.asarray(part) for part in next(iter(examples.batches(32, 0, 1, flip=True)))]
    flipped = np.array([np.any(a != b) for a, b in zip(plain[0], turned[0], strict=True)])
    assert 4 < flipped.sum() < 28
    for before, after in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(before[flipped][:, :, ::-1], after[flipped])
    again = [np.asarray(part) for part in next(iter(examples.batches(32, 0, 1)))]
    np.testing.assert_array_equal(plain[1], again[1])
    moved = examples.augmented(x, y, False, 0.25, np.random.default_rng(1))
    assert np.any(moved[1] != y)
    assert masks.classes(examples.files["train"], 255) == 3 and len(examples.digest) == 16


def test_images_and_masks_are_scaled_to_what_the_model_takes_and_makes(folder):
    images = keras.Input((12, 16, 3))
    model = keras.Model(images, keras.layers.Conv2D(3, 1, strides=2)(images))
    x, y = next(iter(examples_of(model, TaskConfig(dataset=str(folder))).pairs()))
    assert x.shape[1:] == (12, 16, 3) and y.shape[1:] == (6, 8)


def test_what_does_not_fit_is_refused(folder, tmp_path):
    model = network()
    with pytest.raises(UserError, match=r"dataset: expected a folder of images and masks .*`task=detection`"):
        examples_of(model, TaskConfig())
    with pytest.raises(UserError, match=r"expected a map \(height, width, classes\), flat makes \(3,\)"):
        flat = keras.Sequential([keras.Input((24, 24, 3)), keras.layers.GlobalAveragePooling2D()], name="flat")
        examples_of(flat, TaskConfig(dataset=str(folder), task="segmentation"))
    root = write_scenes(tmp_path / "broken", 3)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "masks" / "001.png")
    with pytest.raises(UserError, match=r"001.png: expected 24 x 24 pixels as in 001.png, received 5 x 5"):
        examples_of(model, TaskConfig(dataset=str(root))).evaluate(model, split="train")
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(root / "masks" / "001.png")
    with pytest.raises(UserError, match=r"001.png: expected a class index from 0 to 255 .*, received mode RGB"):
        examples_of(model, TaskConfig(dataset=str(root))).evaluate(model, split="train")
    (root / "masks" / "002.png").unlink()
    with pytest.raises(UserError, match=r"expected masks of the same names, there are none for .*002.png"):
        examples_of(model, TaskConfig(dataset=str(root)))
