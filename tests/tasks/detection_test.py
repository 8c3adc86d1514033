"""Detection: the score of raw outputs by hand, a given loss in DQSS, and images without targets."""

import keras
import numpy as np
import pytest

from tests.tasks.scenes import network, write_scenes
from tflite_export.explain import explain
from tflite_export.lower import lower
from tflite_export.verify import verify
from tflite_export.writer import write
from tfqnas.dqss.post_training import search_post_training
from tfqnas.dqss.quantize_settings import PostTrainingSettings, TrainingSettings
from tfqnas.dqss.training import search_training
from tfqnas.errors import UserError
from tfqnas.tasks import TASKS, Detection, Given, TaskConfig, examples_of, kind_of


def test_the_score_is_the_mean_over_outputs_whatever_their_scales():
    task, rng = Detection(), np.random.default_rng(0)
    boxes, scores = rng.normal(size=(4, 10, 4)), rng.normal(size=(4, 10, 2))
    noisy = [1.1 * boxes, 1.01 * scores]
    tally = task.tally(noisy, [boxes, scores])
    np.testing.assert_allclose(task.score(tally), 30.0)
    assert task.total(tally) == pytest.approx(30.0)
    scaled = task.tally([noisy[0], 1000 * noisy[1]], [boxes, 1000 * scores])
    assert task.total(scaled) == pytest.approx(30.0)
    assert task.total(task.tally([boxes], [boxes])) == 200
    np.testing.assert_array_equal(task.alike([boxes, scores], [boxes, scores + 100]), [0.5] * 4)


def test_models_of_other_shapes_are_of_other_tasks():
    images = keras.Input((24, 24, 3))
    x = keras.layers.Conv2D(4, 3, name="boxes")(images)
    several = keras.Model(images, [x, keras.layers.Conv2D(2, 3)(images)])
    assert kind_of(several) is Detection and kind_of(network()) is TASKS["segmentation"]
    assert kind_of(keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))) is TASKS["classification"]
    assert kind_of(network(), "detection") is Detection
    with pytest.raises(UserError, match="`task`: expected one of classification, detection, .* received 'detektion'"):
        kind_of(network(), "detektion")


def test_several_outputs_are_searched_for_and_verified_together():
    keras.utils.set_random_seed(0)
    layers, images = keras.layers, keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="body")(images)
    boxes = layers.Reshape((-1, 4), name="boxes")(layers.Conv2D(4, 3, name="box")(x))
    scores = layers.Reshape((-1, 2), name="scores")(layers.Conv2D(2, 3, name="score")(x))
    model = keras.Model(images, [boxes, scores], name="ssd")
    x = np.random.default_rng(0).uniform(-1, 1, (32, 16, 16, 3)).astype(np.float32)
    settings = PostTrainingSettings(weights=("lsq",), inputs=("lsq",), bits=8, steps=2, tune_steps=2, batch_size=8)
    small = search_post_training(model, x, settings, task=Detection()).model
    assert 15 < Given(Detection(), (x, None), (x, None)).evaluate(small, model)["sqnr"] < 60
    graph = lower(small, x)
    result = verify(small, graph, write(graph), x, task=Detection(), limit=8)
    assert (result.identical, result.compared, set(result.scores)) == (1, 8, {"reference", "litert"})
    assert set(result.by_output) == {"boxes", "scores"} and "each output of litert: boxes" in str(result)
    assert result.scores["litert"] == pytest.approx(np.mean(list(result.by_output.values())))
    records, whole = explain(small, graph, x, None, task=Detection())
    assert whole == 200 and min(record["alone"] for record in records) < 200


def test_several_inputs_and_named_outputs_are_evaluated_and_verified():
    keras.utils.set_random_seed(0)
    layers, inputs = keras.layers, [keras.Input((8, 8, 3), name=name) for name in ("left", "right")]
    body = layers.Conv2D(4, 3, activation="relu", name="body")
    maps = [body(one) for one in inputs]
    outputs = {
        "wide": layers.Conv2D(3, 1, name="wide")(layers.Add(name="both")(maps)),
        "narrow": layers.Conv2D(2, 1, name="narrow")(maps[0]),
    }
    model = keras.Model(inputs, outputs, name="twins")
    x = list(np.random.default_rng(0).uniform(-1, 0.99, (2, 16, 8, 8, 3)).astype(np.float32))
    found = Given(Detection(), (x, None), (x, None))
    assert found.count("test") == 16 and found.evaluate(model, model)["sqnr"] == 200
    graph = lower(model, x)
    for images in (x, found.pairs("test", size=8)):
        result = verify(model, graph, write(graph), images, task=Detection(), batch_size=4)
        assert (result.images, result.identical) == (16, 1) and list(result.by_output) == ["narrow", "wide"]
        assert min(result.by_output.values()) > 25


def test_a_given_loss_trains_and_without_one_the_float_model_does():
    keras.utils.set_random_seed(0)
    model = network()
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (32, 24, 24, 3)).astype(np.float32)
    y = model(x).numpy() + 0.5
    seen = []

    def loss(found, target):
        seen.append(found.shape)
        return keras.ops.mean(keras.ops.square(found - target))

    config = TrainingSettings(weights=("lsq",), inputs=("lsq",), train_steps=6, batch_size=8, distill=0.0)
    result = search_training(model, Given(Detection(user_loss=loss), (x, y), (x, y)), config)
    assert seen and result.losses["train"] < 0.25
    found = Given(Detection(), (x, None), (x, None)).evaluate(result.model, model)
    assert set(found) == {"sqnr", "agreement"} and 0 < found["sqnr"] < 60
    with pytest.raises(UserError, match="without `user_loss` only the float model can train"):
        search_training(model, Given(Detection(), (x, None), (x, None)), config)
    with pytest.raises(UserError, match="test: expected a target for each of 32 images, received 8"):
        Given(Detection(), (x, y), (x, y[:8]))


def test_images_of_any_folder_do(tmp_path):
    root = write_scenes(tmp_path / "data", 6)
    model = network()
    examples = examples_of(model, TaskConfig(dataset=str(root), task="detection"))
    assert examples.count("train") == 5
    assert [y for _, y in examples.pairs()] == [None]
    assert examples.evaluate(model, model) == {"sqnr": 200.0, "agreement": 1.0}
