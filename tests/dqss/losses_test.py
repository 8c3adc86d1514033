"""Distances of outputs, against numpy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

from tfqnas.dqss import losses
from tfqnas.tasks.classification import agreement


@pytest.fixture
def pair(rng):
    return np.float32(rng.normal(size=(5, 7))), np.float32(rng.normal(size=(5, 7)))


def test_kl_is_the_divergence_of_the_softmaxes_and_the_same_of_probabilities(pair):
    y, target = pair
    p, q = scipy.special.softmax(target, 1), scipy.special.softmax(y, 1)
    expected = np.mean([scipy.stats.entropy(a, b) for a, b in zip(p, q, strict=True)])
    assert losses.kl(y, target).numpy() == pytest.approx(expected, rel=1e-5)
    assert losses.kl(q, p, probabilities=True).numpy() == pytest.approx(expected, rel=1e-4)
    assert losses.kl(y, y).numpy() == pytest.approx(0, abs=1e-6)


def test_mse_is_the_share_of_the_variance_that_is_lost(pair):
    y, target = pair
    assert losses.mse(y, target).numpy() == pytest.approx(np.mean((y - target) ** 2) / np.var(target), rel=1e-5)
    mean = np.full_like(target, target.mean())
    assert losses.mse(mean, target).numpy() == pytest.approx(1, rel=1e-5)


def test_luma_is_that_of_y_and_a_little_of_the_channels(rng):
    y, target = (np.float32(rng.normal(size=(2, 5, 4, 3))) for _ in range(2))
    brightness = [image @ np.float32([0.299, 0.587, 0.114]) for image in (y, target)]
    expected = np.mean((brightness[0] - brightness[1]) ** 2) / np.var(brightness[1])
    expected += 0.1 * np.mean((y - target) ** 2) / np.var(target)
    assert losses.luma(y, target).numpy() == pytest.approx(expected, rel=1e-5)
    grey = target + np.float32([0.114, 0, -0.299])  # another colour, of the same brightness
    assert losses.luma(grey, target).numpy() == pytest.approx(0.1 * losses.mse(grey, target).numpy(), rel=1e-4)


def test_cosine_takes_each_example_as_one_vector(rng):
    y, target = (np.float32(rng.normal(size=(3, 2, 2, 4))) for _ in range(2))
    flat = y.reshape(3, -1), target.reshape(3, -1)
    cosines = np.sum(flat[0] * flat[1], 1) / np.linalg.norm(flat[0], axis=1) / np.linalg.norm(flat[1], axis=1)
    assert losses.cosine(y, target).numpy() == pytest.approx(1 - cosines.mean(), rel=1e-4)
    assert losses.cosine(3 * target, target).numpy() == pytest.approx(0, abs=1e-6)


def test_features_are_the_mean_over_the_tensors(rng):
    ys, targets = ([np.float32(rng.normal(size=(4, n))) for n in (3, 6)] for _ in range(2))
    expected = np.mean([losses.mse(y, t) for y, t in zip(ys, targets, strict=True)])
    assert losses.of_name("features")(ys, targets).numpy() == pytest.approx(expected, rel=1e-6)
    assert losses.of_name("mse")(ys, targets).numpy() == pytest.approx(losses.mse(ys[-1], targets[-1]).numpy())


def test_entropy_is_one_for_equal_coefficients_and_zero_for_one_hot_ones():
    equal, sharp = np.full(4, 0.25, np.float32), np.float32([0, 1, 0])
    assert losses.entropy([equal]).numpy() == pytest.approx(1, rel=1e-5)
    assert losses.entropy([sharp]).numpy() == pytest.approx(0, abs=1e-6)
    assert losses.entropy([equal, sharp]).numpy() == pytest.approx(0.5, rel=1e-5)


def test_agreement_counts_equal_predictions():
    reference = np.float32([[2, 0], [0, 2], [2, 0], [0, 2]])
    given = np.float32([[4, 0], [0, 4], [0, 4], [0, 4]])
    found = agreement(given, reference)
    assert found["agreement"] == 0.75 and found["cosine"] == pytest.approx(0.75)
    p, q = scipy.special.softmax(reference, 1), scipy.special.softmax(given, 1)
    assert found["kl"] == pytest.approx(np.mean([scipy.stats.entropy(a, b) for a, b in zip(p, q, strict=True)]))
