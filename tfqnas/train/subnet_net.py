"""An extracted subnet in the place of a supernet: the same loop trains it."""

from collections.abc import Mapping
from typing import Any, Literal

import keras
import tensorflow as tf

from tfqnas.quantizers import Quantizer, quantizers_of
from tfqnas.spaces import SearchSpace


class SubnetNet:
    """A Keras model behind the interface that training and evaluation know of a `Supernet`.

    It is trained as it is evaluated and deployed: BatchNorm with the statistics that it was extracted with, which are
    folded into integers later, and no dropout.

    Args:
        model: `keras.Model` of one architecture, float32 (batch, resolution, resolution, channels) to logits.
        space: `SearchSpace` of the architecture. settings: those of the supernet.
    """

    def __init__(self, model: keras.Model, space: SearchSpace, settings: Mapping[str, Any]) -> None:
        self.model, self.space, self.settings = model, space, settings
        weights = settings["weights"]
        self.bits: int | Literal["mixed"] | None = None if weights is None else "mixed" if space.mixed else weights.bits
        self._compiled = tf.function(self, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        return self.model.weights  # without the state of the dropout, which is not used

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        return self.model.trainable_variables

    @property
    def quantizers(self) -> list[Quantizer]:
        return quantizers_of(self.model)

    def __call__(
        self, images: tf.Tensor, code: tf.Tensor | None = None, training: bool = False, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """float32 logits (batch, num_classes); there is but one code, and training is evaluation."""
        return self.model(tf.ensure_shape(images, self.model.input_shape), training=False)

    def logits(self, images: tf.Tensor, code: tf.Tensor, statistics: object) -> tf.Tensor:
        return self._compiled(images)
