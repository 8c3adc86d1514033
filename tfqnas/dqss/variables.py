"""The variables that a search learns, as two flat vectors: coefficients of mixtures and parameters of quantizers."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers import Mixture, Quantizer
from tfqnas.quantizers.base import quantizers_of


class Vector:
    """Many small variables as one vector with Adam (Kingma and Ba, 2015), so that a step needs few operations.

    The `values` are kept apart from the variables, so that a forward pass can read values with noise.

    Args:
        variables: Keras variables.
        scales: float32 factors of the learning rate, a number or an array of its shape for each variable.
    """

    def __init__(self, variables: Iterable[keras.Variable], scales: Iterable[float | np.ndarray]) -> None:
        self.variables = list(variables)
        self.sizes = [int(tf.size(v.value)) for v in self.variables]
        pairs = zip(scales, self.variables, strict=True)
        factors = [np.broadcast_to(np.float32(scale), v.shape).ravel() for scale, v in pairs]
        # Part of checkpoints, since they come from the values at the start.
        self.scales = tf.Variable(np.concatenate([*factors, np.zeros(0, np.float32)]))
        self.values, self.first, self.second = (tf.Variable(tf.zeros(sum(self.sizes))) for _ in range(3))
        self.count = tf.Variable(0.0)
        self.read()

    @property
    def state(self) -> dict[str, tf.Variable]:
        """`{name: tf.Variable}` for checkpoints."""
        names = ("values", "first", "second", "count", "scales")
        return {name: getattr(self, name) for name in names}

    def read(self) -> None:
        """Reads the values of the variables."""
        if self.variables:
            self.values.assign(self.flat([v.value for v in self.variables]))

    def restart(self, values: tf.Tensor) -> None:
        """Sets the values, float32 (n,), and resets the moments of Adam."""
        self.values.assign(values)
        self.write(self.values)
        for variable in (self.first, self.second, self.count):
            variable.assign(tf.zeros_like(variable))

    def flat(self, tensors: Iterable[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(t, [-1]) for t in tensors], 0)

    def write(self, values: tf.Tensor) -> None:
        """Assigns values, float32 (n,), to the variables."""
        if not self.variables:
            return
        for variable, part in zip(self.variables, tf.split(values, self.sizes), strict=True):
            value = tf.reshape(part, variable.shape)
            variable.assign(value if variable.constraint is None else variable.constraint(value))

    def step(
        self, gradients: Sequence[tf.Tensor | None], rate: tf.Tensor | float, b1: float = 0.9, b2: float = 0.99
    ) -> None:
        """One step of Adam with the rate times the scale of each variable; gradients that are not finite count as 0."""
        if not self.variables:
            return
        pairs = zip(gradients, self.variables, strict=True)
        g = self.flat([tf.zeros(v.shape) if g is None else g for g, v in pairs])
        g = tf.where(tf.math.is_finite(g), g, 0.0)
        self.count.assign_add(1.0)
        self.first.assign(b1 * self.first + (1 - b1) * g)
        self.second.assign(b2 * self.second + (1 - b2) * g * g)
        first, second = self.first / (1 - b1**self.count), self.second / (1 - b2**self.count)
        self.values.assign_sub(rate * self.scales * first / (tf.sqrt(second) + 1e-12))
        self.write(self.values)
        self.values.assign(self.flat([v.value for v in self.variables]))  # constraints may have moved them


def mixtures(model: keras.Model) -> list[Mixture]:
    """The `Mixture` quantizers of a model, in the order of its layers."""
    return [q for q in quantizers_of(model) if isinstance(q, Mixture)]


def candidates_in(quantizer: Quantizer) -> Sequence[Quantizer]:
    """The candidates of a mixture, or a list of the quantizer itself."""
    return quantizer.candidates if isinstance(quantizer, Mixture) else [quantizer]


def coefficients_of(model: keras.Model) -> Vector:
    """`Vector` of the `alpha` of all mixtures."""
    found = [mixed.alpha for mixed in mixtures(model)]
    return Vector(found, [1.0] * len(found))


def ranges_of(model: keras.Model) -> Vector:
    """`Vector` of the parameters that quantizers learn, with a rate relative to their size at the start."""
    variables: list[keras.Variable] = []
    scales: list[float | np.ndarray] = []
    for quantizer in quantizers_of(model):
        for one in candidates_in(quantizer):
            step = getattr(one, "step", None)
            for variable in one.trainable_variables:
                variables.append(variable)
                # The scale of an offset is the step size, not its own size. Each channel's step has its own scale.
                sizes = np.abs((step if step is not None else variable).numpy())
                own = sizes if sizes.ndim and sizes.shape == tuple(variable.shape) else sizes.mean()
                scales.append(np.where(own > 0, own, 1.0))
    return Vector(variables, scales)
