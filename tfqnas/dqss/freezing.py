"""Makes a plain model of a model with mixtures of quantizers, with the best candidate of each mixture."""

from collections.abc import Callable

import keras

from tfqnas.graph.rebuilding import rebuilt
from tfqnas.quantizers import Mixture


def freeze(model: keras.Model, best: Callable[[Mixture], int] | None = None) -> keras.Model:
    """A copy of a Keras model with one quantizer in the place of each mixture, with the same weights and parameters.

    Args:
        model: functional or Sequential `keras.Model` with `Mixture` quantizers, such as `tfqnas.quantize` makes.
        best: function of a `Mixture` that returns the index of the chosen candidate. None chooses the candidate with
            the largest coefficient.
    """
    chosen = {}

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        own = mixtures_of(layer)
        if not own:
            return None
        ones = {name: mixed.frozen(None if best is None else best(mixed)) for name, mixed in own.items()}
        copy = type(layer).from_config({**layer.get_config(), **ones})
        chosen[copy.name] = ones
        return copy

    frozen = rebuilt(model, replace)
    for layer, ones in chosen.items():
        for name, one in ones.items():
            twin = getattr(frozen.get_layer(layer), name)
            for source, target in zip(one.variables, twin.variables, strict=True):
                target.assign(source)
    return frozen


def mixtures_of(layer: keras.layers.Layer) -> dict[str, Mixture]:
    """`{argument: Mixture}`, the mixtures of a layer by the layer's argument."""
    found = {name: getattr(layer, name, None) for name in ("weight_quantizer", "input_quantizer", "quantizer")}
    return {name: quantizer for name, quantizer in found.items() if isinstance(quantizer, Mixture)}
