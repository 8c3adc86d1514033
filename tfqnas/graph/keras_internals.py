"""The one place that reads what Keras keeps to itself: the calls of layers that a functional model is made of."""

from typing import Any

import keras

from tfqnas.errors import UnsupportedModelError


def nodes_of(model: keras.Model) -> list[Any]:
    """The calls of layers in a functional or Sequential model, each after those whose tensors it takes.

    Raises:
        UnsupportedModelError: the model is of another kind, or not built.
    """
    model = getattr(model, "_functional", None) or model  # a Sequential model has one inside
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        name = getattr(model, "name", type(model).__name__)
        raise UnsupportedModelError(f"{name}: expected a functional or Sequential model that has been built")
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def is_called_once(layer: keras.layers.Layer) -> bool:
    """Whether a layer has been called a single time, in all models that it is part of."""
    return len(layer._inbound_nodes) == 1
