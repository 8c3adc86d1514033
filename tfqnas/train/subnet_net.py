"""An extracted subnet in the place of a supernet: the same loop trains it."""

import tensorflow as tf

from tfqnas.quantizers import quantizers_of


class SubnetNet:
    """A Keras model behind the interface that training and evaluation know of a `Supernet`.

    It is trained as it is evaluated and deployed: BatchNorm with the statistics that it was extracted with, which are
    folded into integers later, and no dropout.

    Args:
        model: `keras.Model` of one architecture, float32 (batch, resolution, resolution, channels) to logits.
        space: `SearchSpace` of the architecture. settings: those of the supernet.
    """

    def __init__(self, model, space, settings):
        self.model, self.space, self.settings = model, space, settings
        weights = settings["weights"]
        self.bits = None if weights is None else "mixed" if space.mixed else weights.bits
        self._compiled = tf.function(self, autograph=False)

    @property
    def variables(self):
        return self.model.weights  # without the state of the dropout, which is not used

    @property
    def trainable_variables(self):
        return self.model.trainable_variables

    @property
    def quantizers(self):
        return quantizers_of(self.model)

    def __call__(self, images, code=None, training=False, seed=None):
        """float32 logits (batch, num_classes); there is but one code, and training is evaluation."""
        return self.model(tf.ensure_shape(images, self.model.input_shape), training=False)

    def logits(self, images, code, statistics):
        return self._compiled(images)
