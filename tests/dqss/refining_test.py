"""Single strategies by their loss, and the descent layer by layer, on losses that are known."""

import numpy as np

from tfqnas.dqss.quantize_settings import PostTrainingSettings
from tfqnas.dqss.refining import ranked_pairs, refined

CONFIG = PostTrainingSettings(inputs=("percentile",))
SEARCHED = [
    ("first", "weights", ["lsq", "mse"]),
    ("middle", "weights", ["lsq", "dorefa", "mse"]),
    ("middle", "inputs", ["lsq", "pact"]),
]


def test_the_best_single_strategy_has_one_name_for_each_role():
    tried = []

    def loss_at(places):
        tried.append(tuple(places))
        return float(np.sum(np.abs(np.subtract(places, [1, 2, 1]))))

    ranked = ranked_pairs(SEARCHED, loss_at, CONFIG)
    assert ranked[0] == (0.0, ("mse", "pact"), [1, 2, 1])
    assert [loss for loss, _, _ in ranked] == sorted(loss for loss, _, _ in ranked) and len(ranked) == 6
    # All pairs, and at the ends, which do not have DoReFa, what is there.
    assert set(tried) == {(w, m, i) for (w, m) in ((0, 0), (0, 1), (1, 2)) for i in (0, 1)}


def test_a_role_without_mixtures_has_its_one_name():
    _, pair, places = ranked_pairs(SEARCHED[:2], lambda places: float(places[1]), CONFIG)[0]
    assert pair == ("lsq", "percentile") and places == [0, 0]


def test_what_clips_at_zero_is_no_strategy_of_a_network_with_signed_inputs():
    ranked = ranked_pairs(SEARCHED, lambda places: 0.0, CONFIG, signed=["middle"])
    assert [pair for _, pair, _ in ranked] == [("lsq", "lsq"), ("dorefa", "lsq"), ("mse", "lsq")]


def test_the_descent_keeps_what_lowers_the_loss_and_nothing_else():
    best = [2, 0, 1]

    def loss_at(places, bound=None):
        return float(np.sum(np.not_equal(places, best)))

    shares = []
    order = [[0, 1, 2], [0, 1, 2], [2, 1, 0]]
    places, loss = refined([0, 0, 2], loss_at([0, 0, 2]), order, loss_at, shares.append)
    assert (places, loss) == (best, 0.0) and shares == [1 / 3, 2 / 3, 1.0]
    # Only the likeliest others are tried.
    assert refined([0, 0, 2], 2.0, order, loss_at, shares.append, tried=1)[0] == [0, 0, 1]
