import numpy as np
import pytest

from tfqnas.scoring.dominated import estimate, is_behind, rivals_of


def pairs(rng, total, ours, theirs, alike=0.8):
    """Outcomes of two subnets of these accuracies, the same on a share of the images."""
    rival = rng.random(total) < theirs
    own = np.where(rng.random(total) < alike, rival, rng.random(total) < (ours - alike * theirs) / (1 - alike))
    return own, rival


def test_whoever_turns_out_better_is_hardly_ever_given_up(rng):
    given_up = 0
    for _ in range(2000):
        own, rival = pairs(rng, 2000, 0.8, 0.8)
        given_up += own.mean() >= rival.mean() and any(is_behind(own[:n], rival) for n in (256, 512, 1024))
    assert given_up <= 6  # three standard errors, three looks: 1 in 500


@pytest.mark.parametrize("shown, gap", [(256, 0.15), (1000, 0.07)])
def test_who_is_far_behind_is_given_up(shown, gap, rng):
    given_up = [is_behind(own[:shown], rival) for own, rival in (pairs(rng, 2000, 0.8 - gap, 0.8) for _ in range(200))]
    assert np.mean(given_up) > 0.95


def test_with_all_images_seen_the_difference_itself_decides(rng):
    own, rival = pairs(rng, 500, 0.75, 0.8)
    assert own.mean() < rival.mean() and is_behind(own, rival)
    assert not is_behind(rival, own) and not is_behind(own, own)


def test_the_estimate_is_nearer_than_the_accuracy_so_far(rng):
    errors = np.array(
        [
            (estimate(own[:256], rival) - own.mean(), own[:256].mean() - own.mean())
            for own, rival in (pairs(rng, 2000, 0.75, 0.8) for _ in range(500))
        ]
    )
    ours, plain = np.sqrt((errors**2).mean(axis=0))
    assert ours < 0.75 * plain and abs(errors[:, 0].mean()) < 0.005


@pytest.mark.parametrize(
    "costs, places",
    [([[3.0]], [1]), ([[0.5]], [None]), ([[1.0], [2.0], [9.0]], [0, 1, 2]), ([[2.5], [0.0]], [1, None])],
)
def test_a_rival_is_the_most_accurate_that_costs_no_more(costs, places):
    assert rivals_of(costs, [[0.5, 1.0], [0.6, 2.0], [0.7, 4.0]]) == places


def test_a_rival_costs_no_more_in_anything():
    front = [[0.9, 1.0, 5.0], [0.8, 2.0, 2.0], [0.7, 1.0, 3.0]]
    assert rivals_of([[2.0, 4.0], [1.0, 4.0], [1.0, 1.0], [9.0, 9.0]], front) == [1, 2, None, 0]
    assert rivals_of([[1.0, 1.0]], np.zeros((0, 3))) == [None]
