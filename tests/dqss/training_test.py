"""The search in training: one pass for weights and coefficients, a schedule, and going on after a stop."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.dqss.conftest import network, normalized, pictures
from tfqnas.data.dataset import DataSet
from tfqnas.data.splits import Arrays
from tfqnas.dqss import training
from tfqnas.dqss.quantize_settings import TrainingSettings
from tfqnas.dqss.step import Step
from tfqnas.dqss.training import search_training
from tfqnas.dqss.variables import mixtures
from tfqnas.errors import TrainingDivergedError, UserError
from tfqnas.layers import DepthToSpace
from tfqnas.quantizers import ROLES, Mixture, quantizers_of
from tfqnas.tasks.classification import Labelled, Unlabelled
from tfqnas.tasks.super_resolution import Photos
from tfqnas.train.checkpoint import Checkpoints

SETTINGS = TrainingSettings(
    bits=4,
    weights=("lsq", "lsq_per_channel", "dorefa"),
    inputs=("lsq_plus", "pact"),
    train_steps=20,
    batch_size=16,
    checkpoint_steps=5,
    learning_rate=0.02,
    training_range_rate=0.02,
    warm_up_share=0.25,
    search_share=0.3,
    norm_images=64,
    refine_in_training=True,
)


@pytest.fixture(scope="module")
def task():
    parts = [Arrays(*pictures(count, seed)) for seed, count in enumerate((256, 8, 64))]
    return Labelled(DataSet("pictures", tuple("abcd"), (8, 8), *parts), 8)


@pytest.fixture(scope="module")
def whole(trained, task):
    seen = []
    result = search_training(trained[0], task, SETTINGS, lambda *at: seen.append(at))
    return result, seen


def weights_of(model):
    return {v.path: v.numpy() for v in model.weights}


def test_weights_and_coefficients_are_learned_and_the_mixtures_become_what_won(trained, task, whole):
    result, seen = whole
    assert not [q for q in quantizers_of(result.model) if isinstance(q, Mixture)]
    ours, before = weights_of(result.model), weights_of(trained[0])
    assert all(np.any(ours[path] != before[path]) for path in before if path.endswith("kernel"))
    choices = len(result.searched)
    assert [name for name, _, _ in seen] == ["warm-up"] * 6 + ["search"] * 7 + ["choose"] * choices + ["train"] * 10
    shares = {name: [share for own, share, _ in seen if own == name] for name in {name for name, _, _ in seen}}
    for part, own in shares.items():
        np.testing.assert_allclose(
            own, np.linspace(0, 1, choices + 1)[1:] if part == "choose" else np.linspace(0, 1, len(own))
        )
    assert task.evaluate(result.model)["accuracy"] > 0.5
    assert set(result.losses) == {"warm-up", "search", "train", "single", "chosen"}
    assert (result.kept is not None) == (result.losses["single"] <= result.losses["chosen"])
    if result.kept:
        inner = [choice for choice in result.choices if choice.bits == 4]  # both strategies exist there
        names = {role: {choice.strategy for choice in inner if choice.role == role} for role in ROLES}
        assert result.kept == "weights by {}, inputs by {}".format(*(own.pop() for own in names.values()))


def test_the_search_opens_with_what_was_warmed_up(trained, task, monkeypatch):
    seen, ahead = [], []

    class Seen(training._Training):
        def _opened(self, warm, images):
            model = super()._opened(warm, images)
            ahead.extend(mixed.coefficients.numpy() for mixed in mixtures(model))
            seen.extend([weights_of(warm), weights_of(model)])
            return model

    monkeypatch.setattr(training, "_Training", Seen)
    config = dataclasses.replace(SETTINGS, train_steps=8, search_share=0.125, warm_up_share=0.25, opening=9.0)
    result = training.search_training(trained[0], task, config)
    warm, mixed = seen
    kernels = [path for path in warm if path.endswith("kernel")]
    before = weights_of(trained[0])
    assert kernels and all(np.any(warm[path] != before[path]) for path in kernels)
    steps = [path for path in warm if path.endswith("step")]
    assert steps
    for path in (*kernels, *steps):
        kind = "lsq_plus" if "input" in path else "lsq"
        own = path if path in mixed else path.replace("/step", f"/0_{kind}/step")
        np.testing.assert_array_equal(mixed[own], warm[path])
    for own, (_, _, names) in zip(ahead, result.searched, strict=True):
        assert names[int(np.argmax(own))] in ("lsq", "lsq_plus") and max(own) > 0.99


@pytest.mark.parametrize(
    ("weights", "inputs", "expected"),
    [
        (("dorefa", "lsq", "lsq_plus"), ("mse", "lsq"), ("lsq_plus", "lsq")),
        (("mse", "dorefa"), ("pact", "lsq_plus"), ("mse", "lsq_plus")),
        ((), (), ("lsq_plus", "lsq_plus")),
    ],
)
def test_the_usual_strategies_are_those_of_the_warm_up(weights, inputs, expected):
    assert training.usual(TrainingSettings(weights=weights, inputs=inputs)) == expected


def test_what_judges_is_not_trained_on(task):
    rest, x, y = task.held_out(300)
    assert len(y) == 25 and len(rest.train) + 25 == len(task.train) == 256
    kept = {image.tobytes() for image in normalized(rest.train.images)}
    assert not kept & {image.tobytes() for image in np.float32(x)}
    images, _ = pictures(64)
    rest, x, y = Unlabelled(images, images).held_out(4)
    assert x.shape == (4, 8, 8, 1) and y.shape == (4,) and len(rest.calibration(100)) == 60
    photos = [np.full((40, 40, 3), 10 * number, np.uint8) for number in range(8)]
    rest, low, high = Photos(photos, [], 2, None, size=8).held_out(3)
    assert low.shape == (3, 8, 8, 3) and high.shape == (3, 16, 16, 3) and len(rest.train) == 7
    assert not {int(photo[0, 0, 0]) for photo in rest.train} & {round(128 * v + 128) for v in np.unique(high)}


def test_of_super_resolution_batch_norm_keeps_its_statistics():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    body = [layers.Conv2D(4, 3, padding="same", name="first"), layers.BatchNormalization(name="norm"), layers.ReLU()]
    body += [layers.Conv2D(12, 3, padding="same", name="last"), DepthToSpace(2)]
    model = keras.Sequential([keras.Input((None, None, 3)), *body], name="enlarging")
    model.get_layer("norm").moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    photos = [np.random.default_rng(n).integers(0, 256, (40, 40, 3)).astype(np.uint8) for n in range(8)]
    config = TrainingSettings(weights=("lsq",), inputs=("lsq",), train_steps=3, batch_size=4, learning_rate=0.001)
    found = search_training(model, Photos(photos, [], 2, None, size=8), config).model
    np.testing.assert_allclose(found.get_layer("norm").moving_mean, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert np.any(found.get_layer("first").kernel != model.get_layer("first").kernel)


@pytest.mark.parametrize("training", [False, True], ids=["moving averages", "anew"])
def test_batch_norm_statistics_are_estimated_anew(trained, task, training):
    config = dataclasses.replace(SETTINGS, weights=("lsq",), inputs=("lsq",), train_steps=3, norm_images=128 * training)
    model = search_training(trained[0], task, config).model
    x = task.calibration(128, config.seed + 1)
    expected = np.asarray(model.get_layer("stem")(x)).mean((0, 1, 2))
    same = np.allclose(model.get_layer("norm").moving_mean, expected, atol=1e-3)
    assert same == training


@pytest.mark.parametrize(
    ("part", "calls", "begins"),
    [
        pytest.param("warm-up", 4, [0, 0, 0], id="warming up"),
        pytest.param("search", 6, [5 / 6, 0], id="searching"),
        pytest.param("choose", 2, [1, 0], id="choosing", marks=pytest.mark.slow),
        pytest.param("train", 7, [4 / 9], id="training"),
    ],
)
def test_after_a_stop_it_goes_on_to_the_same_end(trained, task, whole, part, calls, begins, tmp_path):
    class Stop(Exception):
        pass

    count = 0

    def stop(name, *_):
        nonlocal count
        count += name == part
        if count == calls:
            raise Stop

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Stop):
        search_training(trained[0], task, SETTINGS, stop, checkpoints)
    seen = []
    result = search_training(trained[0], task, SETTINGS, lambda *at: seen.append(at), checkpoints)
    shares = {name: [share for own, share, _ in seen if own == name] for name in dict.fromkeys(n for n, _, _ in seen)}
    choose = shares.pop("choose", None)
    assert [own[0] for own in shares.values()] == pytest.approx(begins) and (choose is None) == (part == "train")
    for own, steps in zip(list(shares.values())[::-1], (9, 6, 5), strict=False):
        assert len(own) == 1 + round(steps * (1 - own[0]))  # none twice
    expected = weights_of(whole[0].model)
    for path, value in weights_of(result.model).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=path)
    assert [c.row for c in result.choices] == [c.row for c in whole[0].choices]
    assert result.kept == whole[0].kept and result.losses == pytest.approx(whole[0].losses, rel=1e-3)


def test_a_model_with_dropout_is_searched_goes_on_and_is_judged_without_it(task, tmp_path):
    layers = keras.layers
    body = [
        layers.Conv2D(8, 3, strides=2, name="first"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
    ]
    body += [layers.Conv2D(8, 1, name="middle"), layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(4)]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), *body], name="dropping")
    config = dataclasses.replace(SETTINGS, train_steps=10, checkpoint_steps=1, inputs=("lsq_plus", "lsq"))
    losses = []

    class Judged(Step):
        def loss(self, batches, bound=np.inf):
            losses.append([super(Judged, self).loss(batches) for _ in range(2)])
            return losses[-1][0]

    def stop(name, *_):
        if name == "search":
            raise KeyboardInterrupt

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search_training(model, task, config, stop, checkpoints)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "Step", Judged)
        result = search_training(model, task, config, None, checkpoints)
    assert losses and all(once == again for once, again in losses)
    (dropout,) = [layer for layer in result.model.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropout.rate == 0.5


def test_too_few_training_images_to_choose_with_are_refused(trained):
    few = Labelled(DataSet("pictures", tuple("abcd"), (8, 8), *[Arrays(*pictures(40))] * 3), 8)
    with pytest.raises(UserError, match="expected a tenth of them, .*, to be at least 5, received 4"):
        search_training(trained[0], few, SETTINGS)
    with pytest.raises(UserError, match="expected at least a batch of 64, received 40"):
        search_training(trained[0], few, dataclasses.replace(SETTINGS, batch_size=64))


def test_checkpoints_of_another_model_or_other_settings_are_refused(trained, task, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    short = dataclasses.replace(SETTINGS, train_steps=2, weights=("lsq",), inputs=("lsq",))
    search_training(trained[0], task, short, None, checkpoints)
    with pytest.raises(UserError, match="its checkpoints are of another model"):
        search_training(network(), task, short, None, checkpoints)
    with pytest.raises(
        UserError, match="`learning_rate=0.5`: the checkpoints in .* were made with `learning_rate=0.02`"
    ):
        search_training(trained[0], task, dataclasses.replace(short, learning_rate=0.5), None, checkpoints)
    other = dataclasses.replace(short, checkpoint_steps=7)
    assert search_training(trained[0], task, other, None, checkpoints).model is not None


def test_without_labels_the_float_model_alone_teaches(trained):
    images, _ = pictures(64)
    task = Unlabelled(images, images[:32])
    config = dataclasses.replace(SETTINGS, train_steps=4, weights=("lsq",), inputs=("lsq",))
    with pytest.raises(UserError, match="`distill`: expected 1, since without labels"):
        search_training(trained[0], task, config)
    result = search_training(trained[0], task, dataclasses.replace(config, distill=1.0))
    assert set(task.evaluate(result.model, trained[0])) == {"agreement", "kl", "cosine"}
    assert result.searched == [] and list(result.losses) == ["train"]


def test_a_loss_that_is_not_finite_ends_it(trained, task, monkeypatch):
    monkeypatch.setattr(type(task.task), "loss", lambda task, y, labels: y[0, 0] * float("nan"))
    config = dataclasses.replace(SETTINGS, train_steps=2, weights=("lsq",), inputs=("lsq",), distill=0.0)
    with pytest.raises(TrainingDivergedError, match="step 0: the loss is nan"):
        search_training(trained[0], task, config)


def test_the_task_gives_what_the_model_takes(trained, task):
    x = task.calibration(20)
    assert x.shape == (20, 8, 8, 1) and x.dtype == np.float32 and -1 <= x.min() < x.max() < 1
    batch, labels = next(iter(task.batches(5, 0, 1)))
    assert batch.shape == (5, 8, 8, 1) and labels.shape == (5,)
    logits = trained[0](normalized(task.test.images)).numpy()
    scores = task.evaluate(trained[0], trained[0])
    assert scores["accuracy"] == np.mean(logits.argmax(1) == task.test.labels)
    assert scores["agreement"] == 1 and abs(scores["kl"]) < 1e-6
