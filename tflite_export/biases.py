"""Moves the biases of a Keras model to the values that its integers represent.

Evaluation in Keras and the exported file then differ only by float rounding.
"""

import keras
import numpy as np

from tflite_export.folding import folded
from tflite_export.int_graph import CONVOLUTIONS, IntGraph
from tfqnas.graph.reading import sites_of


def snap_biases(model: keras.Model, graph: IntGraph) -> None:
    """Sets the biases of an integer-aware model to the values of the integers that its file holds.

    A bias is an integer at the scale of the products. Rounding it is an error of thousandths of a step, but of the same
    sign everywhere in a channel, and quantization to few bits in later layers amplifies it. In a 2-bit network it
    changed the class of 3% of the images. No bias moves by more than half of an integer.

    Args:
        model: `keras.Model`, changed in place: the beta of a BatchNorm, or else the layer's bias.
        graph: `lower(model, ...)`.
    """
    for site in sites_of(model):
        if site.kind not in CONVOLUTIONS:
            continue
        gate = site.activation == "hard_sigmoid"
        held = graph.tensors[f"{site.name}/bias"]
        assert held.data is not None
        moved = held.data * held.scale.astype(np.float64) - folded(site, gate).bias
        if site.norm is not None and site.norm.center:
            variable = site.norm.beta
        elif site.norm is None and getattr(site.layer, "use_bias", False):
            variable = site.layer.bias
        else:
            continue
        variable.assign(np.float32(np.float64(variable.numpy()) + moved * (6 if gate else 1)))
