"""One supernet of the micro space for all tests: every piece of it is traced once."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.scoring.pieces import with_fixed_weights
from tfqnas.scoring.prefixes import path_of
from tfqnas.scoring.scorer import Scorer
from tfqnas.train.calibrate import recalibrate, subnet_logits

SHOWN = 90


class Images:
    """Images of one resolution, as `EvaluationImages` has them."""

    def __init__(self, resolution, count, seed):
        rng = np.random.default_rng((seed, resolution))
        self.pixels = rng.normal(size=(count, resolution, resolution, 1)).astype(np.float32)
        self.labels = rng.integers(0, 10, count)

    def __len__(self):
        return len(self.pixels)

    def batches(self, size):
        return (self.pixels[i : i + size] for i in range(0, len(self), size))


RECALIBRATION = {resolution: Images(resolution, 40, 1) for resolution in (8, 12)}
HELD_OUT = {resolution: Images(resolution, SHOWN, 2) for resolution in (8, 12)}


def make_scorer(supernet):
    settings = {"first_look": 20, "batch_size": 16, "shown_at_once": 10}
    return Scorer(supernet, RECALIBRATION.__getitem__, HELD_OUT.__getitem__, **settings)


@pytest.fixture(scope="module")
def supernet(micro, make_supernet):
    return make_supernet(micro, 3)


@pytest.fixture(scope="module")
def scorer(supernet):
    return make_scorer(supernet)


@pytest.fixture(scope="module")
def archs(micro):
    rng = np.random.default_rng(0)
    some = [micro.sample(rng) for _ in range(12)]
    # Relatives: the same but for the kernel sizes of the last stage.
    relatives = [
        type(a)(a.space, a.resolution, a.depths, (*a.kernels[:-1], 8 - a.kernels[-1]), a.expands) for a in some
    ]
    return list(dict.fromkeys([micro.smallest(), micro.largest(), *some, *relatives]))


def plainly(supernet, arch):
    """Outcomes by `recalibrate` and `predict`."""
    code = supernet.space.encode(arch)
    statistics = recalibrate(supernet, code, RECALIBRATION[arch.resolution], batch_size=16)
    images = HELD_OUT[arch.resolution]
    return subnet_logits(supernet, code, statistics, images, batch_size=10).argmax(axis=1) == images.labels


def test_scores_are_those_of_recalibrate_and_predict(scorer, supernet, archs):
    found = dict(scorer.score(archs))
    assert sorted(found) == list(range(len(archs)))
    for index, arch in enumerate(archs):
        expected = plainly(supernet, arch)
        assert found[index].images == SHOWN
        np.testing.assert_array_equal(found[index].outcomes, expected, err_msg=arch.key)
        assert found[index].accuracy == pytest.approx(expected.mean())


def test_a_score_does_not_depend_on_who_is_scored_besides(scorer, archs):
    together = dict(scorer.score(archs))
    for index, arch in enumerate(archs):
        ((_, alone),) = scorer.score([arch])
        np.testing.assert_array_equal(alone.outcomes, together[index].outcomes)


def test_a_block_is_computed_once_for_all_that_agree_up_to_it(scorer, archs, monkeypatch):
    steps = []
    parts = scorer._parts
    counted = types.SimpleNamespace(
        begin=parts.begin,
        end=parts.end,
        pieces=parts.pieces,
        observers_of=parts.observers_of,
        begin_observers=parts.begin_observers,
        end_observers=parts.end_observers,
        piece=lambda *piece, collect: steps.append((*piece, collect)) or parts.piece(*piece, collect),
    )
    monkeypatch.setattr(scorer, "_parts", counted)
    list(scorer.score(archs))
    paths = [(arch.resolution, path_of(scorer.space, arch)) for arch in archs]
    beginnings = {
        (resolution, path[:n]) for resolution, path in paths for n in range(1, parts.pieces + 1) if path[n - 1]
    }
    # Relatives share the expansion of the block in which their kernel sizes differ, the last one.
    expansions, rests = (sum(place == parts.pieces - n for place, *_ in steps) for n in (2, 1))
    assert 0 < expansions < 0.7 * rests
    # Once for the statistics, once for each share of the images: 20, 20, 40 and 10.
    assert len(steps) == 5 * len(beginnings) < 5 * sum(sum(map(bool, path)) for _, path in paths)


def test_who_is_behind_is_given_up_with_an_estimate(scorer, archs):
    perfect = np.ones(SHOWN, bool)
    found = dict(scorer.score(archs, [perfect if i % 2 else None for i in range(len(archs))]))
    for index, score in found.items():
        if index % 2:
            assert score.outcomes is None and score.images == 20
            assert score.accuracy < 0.9
        else:
            assert score.images == SHOWN


def test_who_is_not_behind_sees_all_images(scorer, archs):
    hopeless = np.zeros(SHOWN, bool)
    assert all(score.images == SHOWN for _, score in scorer.score(archs, [hopeless] * len(archs)))


@pytest.mark.parametrize("settings", [{}, {"kernel_transform": True}, {"shared": False}])
def test_fixing_the_weights_changes_no_output(settings, micro, make_supernet, rng):
    from tfqnas.quantizers import LSQ, BySize

    if "shared" in settings:
        settings = {"weights": BySize(LSQ(bits=2)), "inputs": BySize(LSQ(bits=2, signed=False))}
    supernet = make_supernet(micro, 2, **settings)
    fixed = with_fixed_weights(supernet)
    assert (fixed is supernet) == bool(settings)
    x = tf.constant(rng.normal(size=(4, 8, 8, 1)).astype(np.float32))
    for arch in (micro.smallest(), micro.largest(), micro.sample(rng)):
        code = tf.constant(micro.encode(arch))
        np.testing.assert_array_equal(fixed(x, code), supernet(x, code))
