"""The only place that reads private attributes of Keras, namely the layer calls of a functional model."""

from typing import Any

import keras

from tfqnas.errors import UnsupportedModelError


def nodes_of(model: keras.Model) -> list[Any]:
    """The layer calls of a functional or Sequential model in topological order, as Keras nodes.

    Raises:
        UnsupportedModelError: the model is of another kind, or has not been built.
    """
    model = getattr(model, "_functional", None) or model  # a Sequential model has one inside
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        name = getattr(model, "name", type(model).__name__)
        raise UnsupportedModelError(f"{name}: expected a functional or Sequential model that has been built")
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def is_called_once(layer: keras.layers.Layer) -> bool:
    """Whether a layer has been called exactly once, counted over all models."""
    return len(layer._inbound_nodes) == 1
