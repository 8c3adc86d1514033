"""Lets the training loop train an extracted subnet in the place of a supernet."""

from collections.abc import Mapping
from typing import Any, Literal

import keras
import tensorflow as tf

from tfqnas.quantizers import Quantizer, quantizers_of
from tfqnas.spaces import SearchSpace


class SubnetNet:
    """A Keras model with the part of the interface of a `Supernet` that training and evaluation use.

    It is trained as it is deployed: BatchNorm keeps the statistics with which the subnet was extracted, since they are
    folded into integers later, and there is no dropout.

    Args:
        model: `keras.Model` of one architecture, from float32 (batch, resolution, resolution, channels) to logits.
        space: `SearchSpace` of the architecture.
        settings: `Supernet.settings` of its supernet.
    """

    def __init__(self, model: keras.Model, space: SearchSpace, settings: Mapping[str, Any]) -> None:
        self.model, self.space, self.settings = model, space, settings
        weights = settings["weights"]
        self.bits: int | Literal["mixed"] | None = None if weights is None else "mixed" if space.mixed else weights.bits
        self._compiled = tf.function(self, autograph=False)

    @property
    def variables(self) -> list[keras.Variable]:
        """The weights of the model."""
        return self.model.weights  # without the state of the unused dropout

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The trainable weights of the model."""
        return self.model.trainable_variables

    @property
    def quantizers(self) -> list[Quantizer]:
        """The quantizers of the model."""
        return quantizers_of(self.model)

    def __call__(
        self, images: tf.Tensor, code: tf.Tensor | None = None, training: bool = False, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The logits, float32 (batch, num_classes). Arguments other than `images` have no effect."""
        return self.model(tf.ensure_shape(images, self.model.input_shape), training=False)

    def logits(self, images: tf.Tensor, code: tf.Tensor, statistics: object) -> tf.Tensor:
        """The same in a compiled graph."""
        return self._compiled(images)
