import keras
import numpy as np
import pytest
import tensorflow as tf

from tfqnas.quantizers import LSQ
from tfqnas.train.optimizer import FusedSGD

SHAPES = [(3, 3, 4, 5), (7,), ()]


def trained(optimizer_class, momentum, gradients, rates, compiled):
    variables = [keras.Variable(np.ones(shape, np.float32), name=f"v{i}") for i, shape in enumerate(SHAPES)]
    optimizer = optimizer_class(1.0, momentum=momentum, nesterov=True)
    optimizer.build(variables)
    apply = (
        tf.function(lambda g: optimizer.apply(g, variables), autograph=False)
        if compiled
        else (lambda g: optimizer.apply(g, variables))
    )
    for g, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate.assign(rate)
        apply([tf.constant(x, tf.float32) for x in g])
    return [v.numpy() for v in variables], [m.numpy() for m in optimizer.momentums]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_it_is_nesterov_momentum_as_keras_and_the_formula_have_it(momentum, compiled, rng):
    rates = (0.1, 0.3, 0.05, 0.2)
    gradients = [[rng.normal(size=shape) for shape in SHAPES] for _ in rates]
    ours = trained(FusedSGD, momentum, gradients, rates, compiled)
    theirs = trained(keras.optimizers.SGD, momentum, gradients, rates, compiled)
    for mine, keras_own in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        np.testing.assert_allclose(mine, keras_own, rtol=1e-5, atol=1e-6)
    for i, shape in enumerate(SHAPES):
        w, v = np.ones(shape), np.zeros(shape)
        for g, rate in zip(gradients, rates, strict=True):
            v = momentum * v - rate * g[i]
            w = w + momentum * v - rate * g[i]
        np.testing.assert_allclose(ours[0][i], w, rtol=1e-5, atol=1e-6)


def test_it_keeps_the_constraints_of_its_variables():
    quantizer = LSQ(bits=4)
    quantizer.build()
    quantizer.step.assign(0.1)
    optimizer = FusedSGD(1.0, momentum=0.9, nesterov=True)
    optimizer.build([quantizer.step])
    optimizer.apply([tf.constant(100.0)], [quantizer.step])
    assert 0 < quantizer.step.numpy() < 1e-5


def test_it_is_rebuilt_from_its_configuration():
    config = FusedSGD(0.3, momentum=0.8, nesterov=True).get_config()
    again = FusedSGD.from_config(config)
    assert again.get_config() == config and again.momentum == 0.8 and again.nesterov
