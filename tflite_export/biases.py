"""Biases of a Keras model where its integers are: evaluation and file then differ in nothing but float rounding."""

import keras
import numpy as np

from tflite_export.folding import folded
from tflite_export.int_graph import CONVOLUTIONS, IntGraph
from tfqnas.graph.reading import sites_of


def snap_biases(model: keras.Model, graph: IntGraph) -> None:
    """Moves the biases of an integer-aware model to what its integer form holds, by half an integer at most.

    A bias is an integer at the scale of the products. Rounding it moves thousandths of a step, but those of a channel
    always the same way, and what is quantized to a few bits behind it multiplies them: of a 2-bit network 3% of the
    images changed their class.

    Args:
        model: `keras.Model`, changed in place: the beta of a BatchNorm, or a layer's bias. graph: `lower(model, ...)`.
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
