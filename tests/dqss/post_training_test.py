"""The post-training search on a tiny model: weights stay, what is found is good, and says what it is."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.dqss.conftest import network, normalized, pictures
from tfqnas.dqss import post_training
from tfqnas.dqss.post_training import search_post_training
from tfqnas.dqss.quantize_settings import PostTrainingSettings
from tfqnas.errors import UnsupportedModelError, UserError
from tfqnas.quantizers import ROLES, Mixture, quantizers_of
from tfqnas.tasks.classification import agreement

SETTINGS = PostTrainingSettings(
    bits=3,
    weights=("lsq", "mse_per_channel"),
    inputs=("lsq", "pact", "mse"),
    steps=12,
    tune_steps=6,
    batch_size=16,
    refine_images=32,
    guard=2,
)


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
    assert not [q for q in quantizers_of(result.model) if isinstance(q, Mixture)]
    ours = {v.path: v.numpy() for v in result.model.weights}
    for variable in model.weights:
        np.testing.assert_array_equal(ours[variable.path], variable.numpy())


def test_choices_say_layer_role_bits_and_the_best_other(found):
    _, result, _ = found
    rows = {(c.layer, c.role): c for c in result.choices}
    assert set(rows) == {
        ("stem", "weights"),
        *((name, role) for name in ("depth", "point", "head") for role in ("weights", "inputs")),
    }
    assert rows["depth", "weights"].bits == 3 and rows["stem", "weights"].bits == 8
    for choice in result.choices:
        assert sum(choice.candidates.values()) == pytest.approx(1, abs=1e-4)
        assert choice.strategy in choice.candidates and choice.best_other != choice.strategy and choice.deployable
    twins = {(name, role): q for name, role, q in post_training_tensors(result.model)}
    assert all(twins[key].bits == choice.bits for key, choice in rows.items())


def post_training_tensors(model):
    from tfqnas.dqss.result import quantized_tensors

    return quantized_tensors(model)


def test_coefficients_move_towards_one_hot_and_are_recorded(found):
    _, result, _ = found
    first, last = (np.mean([max(a) for a in result.history[i]["coefficients"]]) for i in (0, -1))
    assert last > first > 0.6 and len(result.history[0]["coefficients"]) == len(result.searched) == 7
    assert [r["step"] for r in result.history] == list(range(12))


def test_progress_goes_through_all_parts(found):
    _, _, parts = found
    assert list(dict.fromkeys(name for name, _, _ in parts)) == ["guard", "longer", "search", "tune", "refine", "final"]
    for part in ("guard", "longer", "search", "tune", "refine", "final"):
        shares = [share for name, share, _ in parts if name == part]
        assert shares[0] == 0 and shares[-1] == pytest.approx(1) and shares == sorted(shares)
    assert [share for name, share, _ in parts if name == "search"] == pytest.approx(np.arange(13) / 12)


def test_what_is_handed_over_has_the_smallest_loss_on_images_that_nothing_was_learned_on(found, trained):
    _, result, _ = found
    singles = {
        name.removeprefix("single: "): loss for name, loss in result.losses.items() if name.startswith("single:")
    }
    usual = {"weights by lsq, inputs by lsq", "weights by mse_per_channel, inputs by mse"}
    assert usual <= set(singles) and len(singles) <= 4 and result.losses["single"] == min(singles.values())
    losses = [result.losses[name] for name in ("largest coefficients", "single", "single, longer", "refined")]
    assert result.losses["final"] == min(losses)
    assert result.kept is None or result.kept in singles
    # The frozen model's loss, by numpy.
    model, images, _ = trained
    x = normalized(images[:64])[post_training.parts_of(64, 16, SETTINGS.choice_share, 0)[1]]
    assert len(x) == 16
    ours, theirs = (agreement(m(x).numpy(), model(x).numpy())["kl"] for m in (result.model, model))
    assert ours == pytest.approx(result.losses["final"], rel=1e-3) and theirs == 0


def test_a_single_strategy_of_the_guard_is_what_it_is_by_itself(found, trained):
    _, result, _ = found
    model, images, _ = trained
    for weights, inputs in (("lsq", "lsq"), ("mse_per_channel", "mse")):
        alone = dataclasses.replace(SETTINGS, weights=(weights,), inputs=(inputs,))
        single = search_post_training(model, normalized(images[:64]), alone)
        loss = result.losses[f"single: weights by {weights}, inputs by {inputs}"]
        assert loss == single.losses["final"] and result.losses["final"] <= loss


def test_the_best_single_strategy_is_tuned_as_long_as_what_is_handed_over(found, trained):
    _, result, _ = found
    model, images, _ = trained
    singles = {name: loss for name, loss in result.losses.items() if name.startswith("single: ")}
    pair = min(singles, key=singles.get).removeprefix("single: weights by ").split(", inputs by ")
    alone = SETTINGS.alone(*pair)
    assert alone.steps + alone.tune_steps == SETTINGS.learned_steps == 2 * 18 + 6
    loss = search_post_training(model, normalized(images[:64]), alone).losses["final"]
    assert loss == result.losses["single, longer"] >= result.losses["final"]


def test_the_search_begins_with_the_best_single_strategy(found, trained):
    _, result, _ = found
    singles = {name: loss for name, loss in result.losses.items() if name.startswith("single: ")}
    best = min(singles, key=singles.get).removeprefix("single: weights by ").split(", inputs by ")
    for (_, role, names), shares in zip(result.searched, result.history[0]["coefficients"], strict=True):
        if (wanted := dict(zip(ROLES, best, strict=True))[role]) in names:  # not so at the ends, which have 8 bits
            assert names[int(np.argmax(shares))] == wanted
    # With what it has learned: before a step the mixture, nearly one-hot, has nearly its loss.
    model, images, _ = trained
    config = dataclasses.replace(SETTINGS, steps=0, tune_steps=8, opening=50.0, refine=False)
    begun = search_post_training(model, normalized(images[:64]), config)
    assert begun.losses["largest coefficients"] <= begun.losses["single"]


def test_any_candidate_can_overtake_the_one_that_is_ahead():
    assert SETTINGS.rate_of_coefficients(12) * 12 == pytest.approx(2 * SETTINGS.opening)
    assert SETTINGS.rate_of_coefficients(1000) == SETTINGS.coefficient_rate


def test_deployable_defaults_end_with_what_integer_models_compute(trained):
    """DoReFa of weights is deployable below 8 bits, not at the ends: there LSQ is."""
    model, images, _ = trained
    config = PostTrainingSettings(bits=4, deployable=True, steps=1, tune_steps=0, batch_size=16, refine=False, guard=1)
    result = search_post_training(model, normalized(images[:32]), config)
    assert all(choice.deployable for choice in result.choices)
    assert "single: weights by dorefa, inputs by pact" in result.losses
    alone = dataclasses.replace(config, weights=("dorefa",), inputs=("lsq",))
    ends = [c.strategy for c in search_post_training(model, normalized(images[:32]), alone).choices if c.bits == 8]
    assert ends == ["lsq", "lsq", "lsq"]


def test_a_single_strategy_to_compare_with_learns_in_as_many_steps_as_what_is_handed_over():
    alone = PostTrainingSettings(steps=100, tune_steps=33).alone("mse", "lsq")
    assert (alone.weights, alone.inputs, alone.steps, alone.tune_steps) == (("mse",), ("lsq",), 266, 33)
    assert PostTrainingSettings(steps=100, tune_steps=33, guard=0, refine=False).alone("mse", "lsq").steps == 100


@pytest.mark.parametrize(("shape", "loss"), [((10,), "kl"), ((1,), "mse"), ((8, 8, 3), "luma"), ((8, 8, 1), "mse")])
def test_the_loss_follows_from_the_output(shape, loss):
    model = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(1.0)], name="net")
    assert post_training.loss_of(PostTrainingSettings(), model) == loss
    constant = {"kl", "cosine"} if shape == (1,) else {"kl"} if shape[-1] == 1 else set()
    for name in ("kl", "cosine"):
        if name in constant:
            with pytest.raises(UserError, match=f"`loss={name}`: expected several outputs to compare, net makes"):
                post_training.loss_of(PostTrainingSettings(loss=name), model)
        else:
            assert post_training.loss_of(PostTrainingSettings(loss=name), model) == name
    if loss != "luma":
        with pytest.raises(UserError, match=r"`loss=luma`: expected a model that makes RGB images, net makes \("):
            post_training.loss_of(PostTrainingSettings(loss="luma"), model)


@pytest.mark.parametrize(
    ("count", "batch", "share", "choice"), [(512, 32, 0.25, 128), (64, 32, 0.1, 32), (40, 32, 0.5, 8)]
)
def test_images_to_learn_on_and_to_choose_with_are_apart(count, batch, share, choice):
    learned, chosen = post_training.parts_of(count, batch, share, 3)
    assert len(chosen) == choice and sorted([*learned, *chosen]) == list(range(count))


def test_in_a_network_with_branches_each_layer_gets_what_was_chosen_for_it(trained, monkeypatch):
    _, images, _ = trained
    x = normalized(images[:32])
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    y = z = keras.layers.Conv2D(4, 3, name="stem")(inputs)
    for number in range(2):
        y = keras.layers.ReLU()(keras.layers.Conv2D(4, 3, padding="same", name=f"a{number}")(y))
    z = keras.layers.ReLU()(keras.layers.Conv2D(4, 1, name="z")(z))  # a copy meets it before or after a1
    y = keras.layers.Add()([y, z])
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(keras.layers.GlobalAveragePooling2D()(y)))
    places = [1, 0, 0, 1, 1]
    monkeypatch.setattr(post_training.Learner, "largest", lambda self: places)
    config = dataclasses.replace(SETTINGS, steps=1, tune_steps=0, inputs=("lsq",), guard=0, refine=False)
    result = search_post_training(model, x, config)
    names = {(layer, role): own[place] for (layer, role, own), place in zip(result.searched, places, strict=True)}
    assert {(c.layer, c.role): c.strategy for c in result.choices if (c.layer, c.role) in names} == names
    chosen = x[post_training.parts_of(32, 16, 0.25, 0)[1]]
    loss = agreement(result.model(chosen).numpy(), model(chosen).numpy())["kl"]
    assert loss == pytest.approx(result.losses["final"], rel=1e-3)


def test_a_saved_result_computes_the_same(found, tmp_path):
    _, result, _ = found
    x = normalized(pictures(8, seed=5)[0])
    result.model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), result.model(x))


def test_the_single_strategy_that_was_better_is_kept_and_named(trained, monkeypatch):
    model, images, _ = trained
    tuned = post_training._PostTraining._tuned

    def worse_but_for_the_guard(self, learner, places, state, steps, part, *within):
        return dataclasses.replace(tuned(self, learner, places, state, 0, part), loss=float(part != "guard"))

    monkeypatch.setattr(post_training._PostTraining, "_tuned", worse_but_for_the_guard)
    result = search_post_training(model, normalized(images[:32]), dataclasses.replace(SETTINGS, steps=1))
    names = {role: {c.strategy for c in result.choices if c.role == role and c.bits == 3} for role in ROLES}
    assert result.kept == f"weights by {names['weights'].pop()}, inputs by {names['inputs'].pop()}"
    assert not any(names.values())


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
    config = dataclasses.replace(SETTINGS, steps=4, tune_steps=0, inputs=("lsq",), guard=0, refine=False)
    one, two = (search_post_training(model, normalized(images[:32]), config) for _ in range(2))
    assert one.history == two.history
    # One step of Adam at a rate of 0.05 moves two equal coefficients to 0.525 at most; the noise is far larger.
    np.testing.assert_allclose(np.concatenate(one.history[0]["coefficients"]), 0.5, atol=0.03)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((8, 8, 8, 1), np.float32), "expected at least 2 batches of 16, received 8"),
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


def test_images_of_a_model_of_vectors_are_refused():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)], name="vectors")
    with pytest.raises(UserError, match=r"with 8, which vectors takes, received \(32, 8, 8, 1\)"):
        search_post_training(model, np.zeros((32, 8, 8, 1), np.float32), SETTINGS)


def test_a_layer_without_integer_form_is_named():
    x = images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="selu", name="odd")(x)
    model = keras.Model(images, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(UnsupportedModelError, match=r"odd_activation \(Activation\).*selu"):
        search_post_training(model, np.zeros((32, 8, 8, 1), np.float32), SETTINGS)
