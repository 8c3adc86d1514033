"""BySize: what it computes of a tensor is what a quantizer of that size computes by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.quantizers import lsq_test
from tests.quantizers.contract import Contract
from tfqnas.quantizers import LSQ, BatchQuant, BySize, MinMax, initializing


def surrogate(quantizer, x):
    """That of the quantizer of this shape, the others' parameters have no slope."""
    place = tuple(values.index(x.shape[axis]) for axis, values in quantizer.sizes)
    function, scales = lsq_test.surrogate(quantizer.static(x.shape), x)
    return lambda x, step: function(x, step[place]), scales


LSQ_4 = keras.saving.serialize_keras_object(LSQ(bits=4, name="lsq"))
CONTRACT = Contract(
    BySize, [{"prototype": LSQ_4, "sizes": [[1, [3, 4, 5]]]}, {"prototype": LSQ_4, "sizes": []}], surrogate
)

SIZES = {0: (3, 5), 2: (4, 6, 8)}


@pytest.fixture
def separate(rng):
    """A weight quantizer of depthwise kernels with steps of its own for each kernel size and width, all different."""
    quantizer = BySize(LSQ(bits=4)).for_sizes(SIZES)
    quantizer.build()
    quantizer.step.assign(rng.uniform(0.1, 0.3, (2, 3)))
    return quantizer


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("width", [4, 6, 8])
@pytest.mark.parametrize("traced", [False, True])
def test_a_step_for_each_size_is_read_from_the_shape_and_no_other_gets_a_gradient(separate, kernel, width, traced, rng):
    x = tf.constant(rng.normal(size=(kernel, kernel, width, 1)), tf.float32)
    place = (SIZES[0].index(kernel), SIZES[2].index(width))
    alone = LSQ(bits=4)
    alone.build()
    alone.step.assign(separate.step.numpy()[place])

    def slopes(quantizer):
        def compute(x):
            with tf.GradientTape() as tape:
                y = quantizer(x)
                loss = tf.reduce_sum(y * tf.cast(tf.range(tf.size(y)), tf.float32)[:, None, None, None][:1])
            return y, tape.gradient(loss, quantizer.step.value)

        shape = tf.TensorSpec((None, None, None, 1), tf.float32)
        return (tf.function(compute, input_signature=[shape]) if traced else compute)(x)

    (y, gradient), (expected, one) = slopes(separate), slopes(alone)
    np.testing.assert_array_equal(y, expected)
    mask = np.zeros((2, 3))
    mask[place] = 1
    np.testing.assert_allclose(gradient, mask * one.numpy(), rtol=1e-6)
    np.testing.assert_array_equal(separate.values_for(x.shape), [separate.step.numpy()[place]])


def test_shared_steps_and_sizes_without_a_choice_stay_single():
    shared = LSQ(bits=4)
    assert shared.for_sizes(SIZES) is shared
    assert type(BySize(shared).for_sizes({0: (3,), 3: (8,)})) is LSQ
    assert BySize(LSQ(bits=4)).for_sizes({3: (8, 16), 0: (3,)}).sizes == ((3, (8, 16)),)


def test_all_steps_start_alike_and_are_doubled_together(separate, rng):
    with initializing():
        separate(rng.normal(size=(5, 5, 8, 1)).astype(np.float32))
    assert len(set(separate.step.numpy().ravel().tolist())) == 1 and separate.problem is None
    half = separate.halved()
    assert half.bits == 3 and half.sizes == separate.sizes
    np.testing.assert_array_equal(half.step, 2 * separate.step.numpy())
    separate.step.assign([[0.1, 0.1, 0.1], [0.1, 1e-7, 0.1]])
    assert "collapsed" in separate.problem


def test_by_itself_it_is_the_quantizer_of_one_size(separate, rng):
    x = tf.constant(rng.normal(size=(3, 3, 8, 1)), tf.float32)
    one = separate.static(x.shape)
    assert type(one) is LSQ and one.step.numpy() == separate.step.numpy()[0, 2]
    codes, scale, zero_point = separate.to_integers(x)
    assert scale == one.step.numpy() and zero_point == 0
    np.testing.assert_allclose(codes.numpy() * np.float64(scale), separate(x), rtol=1e-6)


def test_other_prototypes_are_refused():
    for prototype in (MinMax(), BatchQuant(bits=4)):
        with pytest.raises(TypeError, match=f"{type(prototype).__name__}: expected a quantizer whose parameters alone"):
            BySize(prototype)
    with pytest.raises(ValueError, match="expected signed=True or False, one sign serves all sizes, received None"):
        BySize(LSQ(bits=4, signed=None))
