"""Kendall's tau, its interval, and means with their errors, against what is known of them."""

import math

import numpy as np
import pytest

from tfqnas.runs.analyses.agreement import agreement, in_words, mean_and_error, of_halves
from tfqnas.search import kendall_tau


def correlated(rng, count, tau):
    """Pairs of a bivariate normal distribution with a given tau (Greiner: tau = 2 / pi * arcsin(rho))."""
    rho = math.sin(math.pi * tau / 2)
    x, noise = rng.normal(size=(2, count))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


@pytest.mark.parametrize("ties", [1000, 4])
def test_tau_is_that_of_the_search(rng, ties):
    a, b = rng.integers(0, ties, (2, 30))
    found = agreement(a, b, resamples=50)
    assert found.tau == pytest.approx(kendall_tau(a, b))
    assert found.low <= found.high and (found.count, found.pairs) == (30, 435)


@pytest.mark.parametrize("tau", [0.0, 0.6])
def test_intervals_contain_the_truth_about_as_often_as_they_say(rng, tau):
    hits = 0
    for seed in range(200):
        found = agreement(*correlated(rng, 40, tau), resamples=300, seed=seed)
        hits += found.low <= tau <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_more_subnets_make_a_narrower_interval(rng):
    widths = []
    for count in (20, 320):
        found = agreement(*correlated(rng, count, 0.5))
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)  # as the root of their number


def test_only_the_pairs_that_are_asked_for_are_compared():
    first, second = [1, 2, 3, 4], [1, 2, 4, 3]
    groups = np.array([0, 0, 1, 1])
    found = agreement(first, second, groups[:, None] == groups)
    assert found.tau == 0 and found.pairs == 2  # one pair in order, one not
    assert agreement(first, second, np.eye(4, dtype=bool) | (groups[:, None] + groups == 0)).tau == 1


def test_a_score_that_tells_no_two_apart_has_no_tau():
    found = agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert math.isnan(found.tau) and math.isnan(found.low)
    assert "no two of them apart" in in_words({"tau": None})
    assert in_words({"tau": 0.5, "low": -0.25, "high": 0.75}) == "0.50 (-0.25 to 0.75)"


def test_halves_of_many_images_agree_and_halves_of_pure_chance_do_not(rng):
    strength = np.linspace(0.5, 0.9, 20)[:, None]
    assert of_halves(rng.random((20, 40_000)) < strength) > 0.85
    assert abs(of_halves(rng.random((20, 400)) < 0.8)) < 0.25


def test_mean_and_error_are_those_of_the_textbook():
    mean, error = mean_and_error([1.0, 2.0, 3.0, 6.0])
    assert mean == 3 and error == pytest.approx(math.sqrt(14 / 3 / 4))
    assert math.isnan(mean_and_error([1.0])[1])
