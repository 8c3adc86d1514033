"""Moves the biases of a Keras model to the values that its integers represent.

Evaluation in Keras and the exported file then differ only by float rounding.
"""

import collections

import keras
import numpy as np

from tflite_export.folding import folded
from tflite_export.int_graph import IntGraph
from tfqnas.graph.reading import sites_of
from tfqnas.graph.sites import CONVOLUTIONS


def snap_biases(model: keras.Model, graph: IntGraph) -> None:
    """Sets the biases of an integer-aware model to the values of the integers that its file holds.

    A bias is an integer at the scale of the products. Rounding it is an error of thousandths of a step, but of the same
    sign everywhere in a channel, and quantization to few bits in later layers amplifies it. In a 2-bit network it
    changed the class of 3% of the images. No bias moves by more than half of an integer. Layers that are called several
    times keep theirs, since each call has integers of its own.

    Args:
        model: `keras.Model`, changed in place: the beta of a BatchNorm, or else the layer's bias.
        graph: `lower(model, ...)`.
    """
    sites = [site for site in sites_of(model) if site.kind in CONVOLUTIONS and f"{site.name}/bias" in graph.tensors]
    calls = collections.Counter(id(site.layer) for site in sites)
    for site in sites:
        if calls[id(site.layer)] > 1:
            continue
        held = graph.tensors[f"{site.name}/bias"]
        assert held.data is not None
        moved = held.data * held.scale.astype(np.float64) - folded(site).bias
        if site.activation == "hard_sigmoid":
            moved = moved * 6
        variable = site.layer.bias if getattr(site.layer, "use_bias", False) else None
        for affine in site.affines:
            if affine.trained_offset is not None:
                variable = affine.trained_offset
        if site.affines and variable is not site.affines[-1].trained_offset:
            continue  # behind it comes a factor or a constant that has no variable
        if variable is not None:
            variable.assign(np.float32(np.float64(variable.numpy()) + moved))
