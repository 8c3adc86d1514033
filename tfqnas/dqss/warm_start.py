"""Copies learned quantizers and weights of a model with one strategy to a model with mixtures."""

import keras
import numpy as np

from tfqnas.dqss.result import quantized_tensors
from tfqnas.dqss.variables import candidates_in
from tfqnas.quantizers import Mixture, name_of


def adopt(mixed: keras.Model, single: keras.Model) -> list[int]:
    """Copies the parameters of a model's quantizers to the candidates with the same strategy in another model.

    Args:
        mixed: model with mixtures, which is changed.
        single: model with the same layers and one quantizer for each tensor.

    Returns:
        For each mixture, in the order of `variables.mixtures`, the index of that candidate, or 0 if there is none.
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
    """Assigns to a model the weights and BatchNorm statistics of a trained model with the same layers."""
    values = {v.path: v for v in trained.weights}
    for variable in model.weights:
        variable.assign(np.asarray(values[variable.path].numpy()))
