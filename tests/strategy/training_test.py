"""The search in training: one pass for weights and coefficients, a schedule, and going on after a stop."""

import dataclasses

import numpy as np
import pytest

from tests.strategy.conftest import network, normalized, pictures
from tfqnas.data.dataset import DataSet
from tfqnas.data.splits import Arrays
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.quantizers import Mixed, quantizers_of
from tfqnas.strategy.config import TrainingSettings
from tfqnas.strategy.tasks import Classification, Unlabelled
from tfqnas.strategy.training import search_training
from tfqnas.train.checkpoint import Checkpoints

SETTINGS = TrainingSettings(
    bits=4, weights=("lsq", "dorefa"), inputs=("lsq", "pact"), train_steps=20, batch_size=16, checkpoint_steps=5,
    learning_rate=0.02, warmup_share=0.1, search_share=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def task():
    parts = [Arrays(*pictures(count, seed)) for seed, count in enumerate((256, 8, 64))]
    return Classification(DataSet("pictures", tuple("abcd"), (8, 8), *parts), 8)


@pytest.fixture(scope="module")
def whole(trained, task):
    seen = []
    result = search_training(trained[0], task, SETTINGS, lambda *at: seen.append(at))
    return result, seen


def weights_of(model):
    return {v.path: v.numpy() for v in model.weights}


def test_weights_and_coefficients_are_learned_and_the_mixtures_become_their_best(trained, task, whole):
    result, seen = whole
    assert not [q for q in quantizers_of(result.model) if isinstance(q, Mixed)]
    ours, before = weights_of(result.model), weights_of(trained[0])
    assert all(np.any(ours[path] != before[path]) for path in before if path.endswith("kernel"))
    assert [name for name, _, _ in seen] == ["search"] * 10 + ["train"] * 10
    accuracy = task.evaluate(result.model)["accuracy"]
    assert accuracy > 0.5 and set(result.losses) == {"search", "train"}


def test_coefficients_stay_equal_in_the_warm_up(whole):
    result, _ = whole
    first, warm, last = (result.history[i]["coefficients"] for i in (0, 1, -1))
    np.testing.assert_allclose(np.concatenate([*first, *warm]), 0.5)
    assert all(max(a) > 0.5 for a in last)


@pytest.mark.parametrize(
    "steps", [pytest.param(7, id="searching"), pytest.param(15, id="training", marks=pytest.mark.slow)]
)
def test_after_a_stop_it_goes_on_to_the_same_end(trained, task, whole, steps, tmp_path):
    class Stop(Exception):
        pass

    count = 0

    def stop(*_):
        nonlocal count
        count += 1
        if count == steps:
            raise Stop

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Stop):
        search_training(trained[0], task, SETTINGS, stop, checkpoints)
    seen = []
    result = search_training(trained[0], task, SETTINGS, lambda *at: seen.append(at), checkpoints)
    assert len(seen) == 20 - steps // 5 * 5
    expected = weights_of(whole[0].model)
    for path, value in weights_of(result.model).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=path)
    assert [c.row for c in result.choices] == [c.row for c in whole[0].choices]


def test_checkpoints_of_another_model_or_other_settings_are_refused(trained, task, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    short = dataclasses.replace(SETTINGS, train_steps=2, weights=("lsq",), inputs=("lsq",))
    search_training(trained[0], task, short, None, checkpoints)
    with pytest.raises(UserError, match="its checkpoints are of another model"):
        search_training(network(), task, short, None, checkpoints)
    with pytest.raises(
        UserError, match="--learning_rate=0.5: the checkpoints in .* were made with --learning_rate=0.02"
    ):
        search_training(trained[0], task, dataclasses.replace(short, learning_rate=0.5), None, checkpoints)
    other = dataclasses.replace(short, checkpoint_steps=7)
    assert search_training(trained[0], task, other, None, checkpoints).model is not None


def test_without_labels_the_float_model_alone_teaches(trained):
    images, _ = pictures(64)
    task = Unlabelled(images, images[:32])
    config = dataclasses.replace(SETTINGS, train_steps=4, weights=("lsq",), inputs=("lsq",))
    with pytest.raises(UserError, match="--distill: without labels"):
        search_training(trained[0], task, config)
    result = search_training(trained[0], task, dataclasses.replace(config, distill=1.0))
    assert set(task.evaluate(result.model, task.outputs(trained[0]))) == {"agreement", "kl", "cosine"}
    assert result.searched == [] and list(result.losses) == ["train"]


def test_a_loss_that_is_not_finite_ends_it(trained, task, monkeypatch):
    monkeypatch.setattr(task, "loss", lambda y, labels: y[0, 0] * float("nan"))
    config = dataclasses.replace(SETTINGS, train_steps=2, weights=("lsq",), inputs=("lsq",), distill=0.0)
    with pytest.raises(TrainingDivergedError, match="step 0: the loss is nan"):
        search_training(trained[0], task, config)


def test_the_task_gives_what_the_model_takes(trained, task):
    x = task.calibration(20)
    assert x.shape == (20, 8, 8, 1) and x.dtype == np.float32 and -1 <= x.min() < x.max() < 1
    batch, labels = next(iter(task.batches(5, 0, 1)))
    assert batch.shape == (5, 8, 8, 1) and labels.shape == (5,)
    logits = task.outputs(trained[0])
    np.testing.assert_allclose(logits, trained[0](normalized(task.test.images)), rtol=1e-5, atol=1e-5)
    scores = task.scores(logits, logits)
    assert scores["accuracy"] == np.mean(logits.argmax(1) == task.test.labels)
    assert scores["agreement"] == 1 and abs(scores["kl"]) < 1e-6
