import types

import numpy as np
import pytest
import tensorflow as tf

from tfqnas.layers import ElasticBatchNorm
from tfqnas.train.calibrate import accuracy, recalibrate, subnet_logits


class Recorded:
    """In place of a supernet: the statistics of a batch are those of its pixels, and batches are kept."""

    observers = (ElasticBatchNorm(), ElasticBatchNorm())

    def __init__(self):
        self.batches = []

    def batch_statistics(self, images, code):
        assert code.dtype == tf.int32
        self.batches.append(np.asarray(images))
        x = np.float64(images)
        statistics = np.float32(np.stack([x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))]))
        return [tf.constant(statistics), tf.constant(2 * statistics)]


@pytest.fixture
def images(rng):
    drift = np.linspace(-2, 2, 40)[:, np.newaxis, np.newaxis, np.newaxis]  # the batches' means differ
    return np.float32(rng.normal(size=(40, 3, 3, 2)) + drift)


@pytest.mark.parametrize("batch_size", [1, 5, 10, 40, 1000])
def test_pooled_statistics_are_the_mean_and_total_variance_of_all_images(batch_size, images):
    statistics = recalibrate(Recorded(), np.zeros(3, np.int64), images, batch_size)
    expected = [np.float64(images).mean(axis=(0, 1, 2)), np.float64(images).var(axis=(0, 1, 2))]
    assert len(statistics) == 2 and all(s.shape == (2, 2) for s in statistics)
    np.testing.assert_allclose(statistics[0], expected, rtol=1e-4, atol=1e-6)


def test_images_that_do_not_fill_a_batch_are_left_out(images):
    recorded = Recorded()
    statistics = recalibrate(recorded, [0], images, 15)
    assert [len(batch) for batch in recorded.batches] == [15, 15]
    np.testing.assert_array_equal(np.concatenate(recorded.batches), images[:30])
    np.testing.assert_allclose(statistics[0][1], np.float64(images[:30]).var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("bits", [None, 4])
def test_the_first_batch_norm_has_the_statistics_of_all_images_at_once(bits, micro, make_supernet, rng):
    """Those behind it see batches that were normalised by their own statistics: near, not equal."""
    supernet = make_supernet(micro, bits)
    images = np.float32(rng.normal(size=(32, 8, 8, 1)) + np.linspace(-1, 1, 32)[:, None, None, None])
    eager = types.SimpleNamespace(
        batch_statistics=lambda x, code: supernet(tf.constant(x), code, collect=True)[1], observers=supernet.observers
    )
    statistics = recalibrate(eager, micro.encode(micro.smallest()), images, batch_size=8)
    x = np.float64(supernet.stem(images))
    np.testing.assert_allclose(statistics[0], [x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))], rtol=1e-4, atol=1e-6)
    assert [s.shape for s in statistics] == [(2, o.statistics_size) for o in supernet.observers]


@pytest.mark.parametrize("batch_size", [1, 4, 10, 256])
def test_predictions_come_in_the_order_of_the_images(batch_size, rng):
    images = rng.normal(size=(10, 2, 2, 1)).astype(np.float32)
    sizes = []

    def logits(x, code, statistics):
        sizes.append(len(x))
        return tf.reshape(x, (len(x), 4)) + tf.reduce_sum(statistics[0]) + tf.cast(code[0], tf.float32)

    computed = subnet_logits(
        types.SimpleNamespace(logits=logits), [1], [np.ones((2, 3), np.float32)], images, batch_size
    )
    np.testing.assert_allclose(computed, images.reshape(10, 4) + 6 + 1, rtol=1e-6)
    assert sum(sizes) == 10 and max(sizes) <= batch_size


def test_accuracy_is_the_share_of_hits():
    logits = np.array([[1, 3, 2], [5, 0, 0], [0, 1, 2], [9, 8, 7]])
    assert accuracy(logits, np.array([1, 0, 0, 0])) == 0.75
