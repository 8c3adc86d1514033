"""A model with mixtures of quantizers takes over what a model with one strategy has learned."""

import keras
import numpy as np

from tfqnas.dqss.result import quantized_tensors
from tfqnas.dqss.variables import candidates_in
from tfqnas.quantizers import Mixture, name_of


def adopt(mixed: keras.Model, single: keras.Model) -> list[int]:
    """Copies the parameters of a model's quantizers to those candidates of another that are of the same strategy.

    Args:
        mixed: model with mixtures. single: model of the same layers with one quantizer a tensor.

    Returns:
        For each mixture, in the order of `variables.mixtures`, the place of that candidate, 0 where it is none.
    """
    theirs = {(layer, role): quantizer for layer, role, quantizer in quantized_tensors(single)}
    places = []
    for layer, role, quantizer in quantized_tensors(mixed):
        own, wanted = candidates_in(quantizer), theirs[layer, role]
        place = next((n for n, one in enumerate(own) if name_of(one) == name_of(wanted)), None)
        if place is not None:
            for source, target in zip(wanted.variables, own[place].variables, strict=True):
                target.assign(source)
            if wanted.signed is not None and own[place].signed is not None:
                own[place].decide(wanted.signed)
        if isinstance(quantizer, Mixture):
            places.append(place or 0)
    return places


def with_weights_of(model: keras.Model, trained: keras.Model) -> None:
    """Gives a model the weights, and BatchNorm's statistics, of another one with the same layers."""
    values = {v.path: v for v in trained.weights}
    for variable in model.weights:
        variable.assign(np.asarray(values[variable.path].numpy()))
