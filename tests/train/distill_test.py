import numpy as np
import pytest
import tensorflow as tf

from tfqnas.train.distill import subnet_loss


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def oracle(logits, labels, soft_logits, weight, smoothing, temperature):
    classes = logits.shape[1]
    hard = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    soft = np.exp(log_softmax(soft_logits / temperature))
    hard_loss = -np.sum(hard * log_softmax(logits), axis=1)
    soft_loss = -np.sum(soft * log_softmax(logits / temperature), axis=1)
    return np.mean((1 - weight) * hard_loss + weight * temperature**2 * soft_loss)


@pytest.fixture
def batch(rng):
    return rng.normal(size=(6, 5)) * 3, rng.integers(0, 5, 6), rng.normal(size=(6, 5)) * 3


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_oracle(weight, smoothing, temperature, batch):
    logits, labels, soft = batch
    computed = subnet_loss(
        tf.constant(logits, tf.float32),
        tf.constant(labels),
        tf.constant(soft, tf.float32),
        tf.constant(weight),
        smoothing,
        temperature,
    )
    assert computed.shape == ()
    assert computed.numpy() == pytest.approx(oracle(logits, labels, soft, weight, smoothing, temperature), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_its_gradient_is_that_of_the_oracle_and_none_reaches_the_teacher(temperature, batch):
    logits, labels, soft = batch
    ours, theirs = tf.constant(logits, tf.float32), tf.constant(soft, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([ours, theirs])
        loss = subnet_loss(ours, tf.constant(labels), theirs, 0.6, 0.1, temperature)
    gradient, to_teacher = tape.gradient(loss, [ours, theirs])
    assert to_teacher is None
    e = 1e-6
    for i, j in ((0, 0), (2, 3), (5, 4)):
        change = np.zeros_like(logits)
        change[i, j] = e
        slope = (
            oracle(logits + change, labels, soft, 0.6, 0.1, temperature)
            - oracle(logits - change, labels, soft, 0.6, 0.1, temperature)
        ) / (2 * e)
        assert gradient[i, j].numpy() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_soft_labels_are_matched_where_the_logits_are_the_teachers(batch):
    _, labels, soft = batch
    soft = tf.constant(soft, tf.float32)
    for temperature in (1.0, 3.0):
        logits = tf.identity(soft)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = subnet_loss(logits, tf.constant(labels), soft, 1.0, 0.1, temperature)
        np.testing.assert_allclose(tape.gradient(loss, logits), np.zeros(soft.shape), atol=1e-6)
