import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.scoring.predictor import Predictor

SPACE = spaces.get("tiny")


def scored(count, rng, noise=0.002):
    """Codes and accuracies that grow with every choice, each gene with a weight of its own."""
    codes = np.unique([SPACE.encode(SPACE.sample(rng)) for _ in range(count)], axis=0)
    weights = np.random.default_rng(1).random(codes.shape[1])
    gain = (codes * weights * SPACE.active(codes)).sum(axis=1)
    return codes, 0.9 - 0.3 * np.exp(-gain / 4) + noise * rng.normal(size=len(codes))


@pytest.fixture(scope="module")
def predictor():
    return Predictor(SPACE)


def test_it_ranks_subnets_that_it_has_not_seen(predictor, rng):
    quality = predictor.fit(*scored(400, rng))
    assert quality.tau > 0.8 and quality.error < 0.01
    assert len(quality.predicted) == len(quality.measured) == round(0.2 * (quality.trained + len(quality.measured)))
    codes, accuracies = scored(300, np.random.default_rng(7))
    assert np.abs(predictor(codes) - accuracies).mean() < 0.01


def test_the_same_subnets_give_the_same_predictor(predictor, rng):
    codes, accuracies = scored(60, rng)
    first = (predictor.fit(codes, accuracies), predictor(codes))
    predictor.fit(codes[:30], accuracies[:30])
    again = (predictor.fit(codes, accuracies), predictor(codes))
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])


def test_the_quality_is_measured_on_counted_accuracies_only(predictor, rng):
    codes, accuracies = scored(60, rng)
    counted = np.arange(len(codes)) % 3 == 0
    quality = predictor.fit(codes, np.where(counted, accuracies, 0.1), counted)
    assert set(quality.measured) <= set(accuracies[counted]) and len(quality.measured) == round(0.2 * counted.sum())
    assert quality.trained == len(codes) - len(quality.measured)


def test_blocks_beyond_the_depth_do_not_matter(predictor, rng):
    predictor.fit(*scored(50, rng))
    code = SPACE.encode(SPACE.smallest())
    other = np.where(SPACE.active(code), code, SPACE.choice_counts - 1)
    assert (other != code).any()
    assert predictor(code[None]) == predictor(other[None])


@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_subnets_are_enough_for_something(count, predictor, rng):
    codes, accuracies = scored(40, rng)
    quality = predictor.fit(codes[:count], accuracies[:count])
    assert quality.trained + len(quality.measured) == count
    assert np.isfinite(predictor(codes)).all()
