"""The only place that reads private attributes of Keras, namely the layer calls of a functional model."""

import inspect
from collections.abc import Mapping
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


def filled(node: Any, tensors: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`(args, kwargs)` of a call, with what `tensors` has by the ids of Keras tensors in the place of its tensors."""
    return node.arguments.fill_in(tensors)


def named(node: Any, tensors: Mapping[int, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of the parameters of `call`, filled in as by `filled`."""
    args, kwargs = filled(node, tensors)
    bound = inspect.signature(node.operation.call).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def input_names(model: keras.Model) -> list[str]:
    """The names of a model's input layers, in the order of its inputs."""
    return [tensor._keras_history.operation.name for tensor in model.inputs]


def ends_of(model: keras.Model) -> tuple[Any, Any]:
    """`(inputs, outputs)`, the Keras tensors of a model in the lists and dictionaries that it takes and gives."""
    model = getattr(model, "_functional", None) or model
    return model.input, model.output


def is_nested(operation: Any) -> bool:
    """Whether an operation is a model that consists of layer calls, so that they can stand in its place."""
    operation = getattr(operation, "_functional", None) or operation
    return isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")


def is_operation(operation: Any) -> bool:
    """Whether it is one of the operations on tensors that come with Keras (`keras.ops`), and no layer."""
    return not isinstance(operation, keras.layers.Layer) and type(operation).__module__.startswith("keras.src.")


def count_of_inputs(layer: keras.layers.Layer) -> int:
    """How many tensors a layer reads in its first call."""
    return len(layer._inbound_nodes[0].input_tensors)


def is_called_once(layer: keras.layers.Layer) -> bool:
    """Whether a layer has been called exactly once, counted over all models."""
    return len(layer._inbound_nodes) == 1
