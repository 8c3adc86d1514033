"""The post-training search on a tiny model: weights stay, what is found is good, and says what it is."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.strategy.conftest import network, normalized, pictures
from tfqnas.errors import UnsupportedModelError, UserError
from tfqnas.quantizers import ROLES, Mixed, quantizers_of
from tfqnas.strategy import exchange, freeze, post_training
from tfqnas.strategy.config import PostTrainingSettings
from tfqnas.strategy.post_training import search_post_training

SETTINGS = PostTrainingSettings(
    bits=3, weights=("lsq", "mse_per_channel"), inputs=("lsq", "pact", "mse"), steps=12, tune_steps=6, batch_size=16,
    refine_images=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def found(trained):
    model, images, _ = trained
    parts = []
    before = [v.numpy().copy() for v in model.weights]
    result = search_post_training(model, normalized(images[:64]), SETTINGS, lambda *at: parts.append(at))
    for variable, kept in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), kept)
    return model, result, parts


def test_weights_and_batch_norm_stay_and_no_mixture_is_left(found):
    model, result, _ = found
    assert not [q for q in quantizers_of(result.model) if isinstance(q, Mixed)]
    ours = {v.path: v.numpy() for v in result.model.weights}
    for variable in model.weights:
        np.testing.assert_array_equal(ours[variable.path], variable.numpy())


def test_choices_say_layer_role_bits_and_the_runner_up(found):
    _, result, _ = found
    rows = {(c.layer, c.role): c for c in result.choices}
    assert set(rows) == {("stem", "weights"), *((name, role) for name in ("depth", "point", "head")
                                                for role in ("weights", "inputs"))}  # fmt: skip
    assert rows["depth", "weights"].bits == 3 and rows["stem", "weights"].bits == 8
    for choice in result.choices:
        assert sum(choice.candidates.values()) == pytest.approx(1, abs=1e-4)
        assert choice.strategy in choice.candidates and choice.runner_up != choice.strategy and choice.deployable
    twins = {(name, role): q for name, role, q in post_training_tensors(result.model)}
    assert all(twins[key].bits == choice.bits for key, choice in rows.items())


def post_training_tensors(model):
    from tfqnas.strategy.result import quantized_tensors

    return quantized_tensors(model)


def test_coefficients_move_towards_one_hot_and_are_recorded(found):
    _, result, _ = found
    first, last = (np.mean([max(a) for a in result.history[i]["coefficients"]]) for i in (0, -1))
    assert last > first and len(result.history[0]["coefficients"]) == len(result.searched) == 7
    assert [r["step"] for r in result.history] == list(range(12))


def test_progress_goes_through_all_parts(found):
    _, _, parts = found
    assert list(dict.fromkeys(name for name, _, _ in parts)) == ["search", "tune", "guard", "refine", "final"]
    assert [share for name, share, _ in parts if name == "search"] == pytest.approx(np.arange(1, 13) / 12)


def test_what_is_handed_over_has_the_smallest_loss(found):
    _, result, _ = found
    singles = {name.removeprefix("single: "): loss for name, loss in result.losses.items() if name.startswith("single")}
    learned = {"weights by lsq, inputs by lsq", "weights by lsq, inputs by pact"}
    assert 1 <= len(singles) <= 2 and learned & set(singles)
    losses = [result.losses["largest coefficients"], *singles.values(), result.losses["refined"]]
    assert result.losses["final"] == pytest.approx(min(losses), rel=1e-4)
    assert result.kept is None or singles[result.kept] == pytest.approx(min(losses), rel=1e-4)


def test_a_saved_result_computes_the_same(found, tmp_path):
    _, result, _ = found
    x = normalized(pictures(8, seed=5)[0])
    result.model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), result.model(x))


def test_the_single_strategy_that_was_better_is_kept_and_named(trained, monkeypatch):
    model, images, _ = trained
    monkeypatch.setattr(
        post_training._PostTraining, "_tuned", lambda self, learner, part: (learner.model, float(part != "guard"))
    )
    config = dataclasses.replace(SETTINGS, steps=1, tune_steps=0)
    result = search_post_training(model, normalized(images[:32]), config)
    names = {role: {c.strategy for c in result.choices if c.role == role and c.bits == 3} for role in ROLES}
    assert result.kept == f"weights by {names['weights'].pop()}, inputs by {names['inputs'].pop()}"
    assert not any(names.values())


def test_parameters_go_back_into_the_mixtures_that_have_their_strategies(trained):
    model, images, _ = trained
    x = normalized(images[:32])
    mixed = post_training.quantized(model, SETTINGS, x)
    single = post_training.quantized(
        model, dataclasses.replace(SETTINGS, weights=("mse_per_channel",), inputs=("pact",)), x
    )
    for quantizer in quantizers_of(single):
        for variable in quantizer.variables:
            variable.assign(variable.value * 0.9)
    assert exchange.give_back(single, mixed)
    places = iter(exchange.places_of(single, mixed))
    np.testing.assert_array_equal(freeze(mixed, best=lambda _: next(places))(x), single(x))
    other = post_training.quantized(model, dataclasses.replace(SETTINGS, weights=("dsq",), inputs=("lsq",)), x)
    assert not exchange.give_back(other, mixed)


@pytest.mark.parametrize("loss", ["mse", "cosine", "features"])
def test_one_strategy_is_learned_by_the_same_code(trained, loss):
    model, images, _ = trained
    config = dataclasses.replace(SETTINGS, weights=("lsq",), inputs=("lsq",), loss=loss, recalibrate=loss == "mse")
    result = search_post_training(model, normalized(images[:64]), config)
    assert result.searched == [] and result.history == [] and result.kept is None
    assert {c.strategy for c in result.choices} == {"lsq"} and 0 <= result.losses["final"] < 1
    moved = [v.name for v in result.model.non_trainable_variables if v.name == "moving_mean"]
    assert len(moved) == 1


def test_noise_tries_the_candidates_and_leaves_nothing_behind(trained):
    model, images, _ = trained
    config = dataclasses.replace(SETTINGS, noise=1.0, steps=4, tune_steps=0, guard=False, refine=False)
    one, two = (search_post_training(model, normalized(images[:32]), config) for _ in range(2))
    assert one.history == two.history


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((8, 8, 8, 1), np.float32), "expected at least a batch of 16, received 8"),
        (np.zeros((32, 9, 8, 1), np.float32), r"with 8 x 8 x 1, which tiny takes, received \(32, 9, 8, 1\)"),
        (np.zeros((32, 8, 8, 3), np.float32), r"with 8 x 8 x 1, which tiny takes, received \(32, 8, 8, 3\)"),
        (np.zeros((32, 64), np.float32), r"received \(32, 64\)"),
        (np.full((32, 8, 8, 1), 200.0, np.float32), "expected normalised ones, .* received values from 200 to 200"),
        (np.zeros((32, 8, 8, 1), np.uint8), "expected normalised ones, .* received uint8"),
        (np.full((32, 8, 8, 1), np.nan, np.float32), "expected finite values"),
    ],
)
def test_other_images_are_refused(images, expected):
    with pytest.raises(UserError, match=expected):
        search_post_training(network(), images, SETTINGS)


def test_a_layer_without_integer_form_is_named():
    x = images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="gelu", name="odd")(x)
    model = keras.Model(images, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(UnsupportedModelError, match=r"odd \(Conv2D\).*gelu"):
        search_post_training(model, np.zeros((16, 8, 8, 1), np.float32), SETTINGS)
