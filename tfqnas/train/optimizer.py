"""SGD with Nesterov momentum, one kernel a variable."""

import keras
import tensorflow as tf


class FusedSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with momentum, its update of a variable done by one TensorFlow kernel.

    A supernet has hundreds of small variables, and Keras' own update is about ten operations for each: a
    third of the graph of a step, and of the time to trace it. The result is the same.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: keras.Variable) -> None:
        # `variable` is one device's copy; under a distribution strategy so must be its momentum.
        momentum = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )
