"""The normal form of a Keras model: one flat model of layers and operations that compute one thing each.

`quantize` makes it before it puts quantizers in, and the exporter before it reads a model as sites. Models in models
become their layers. Layers that compute several things become several (`expansions`). Activations that integer models
compute separately leave their layers.
"""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.graph.expansions import expansion_of
from tfqnas.graph.keras_internals import is_nested, nodes_of
from tfqnas.graph.rebuilding import rebuilt, unsupported
from tfqnas.layers import QuantConv2D, QuantConv2DTranspose, QuantDense, QuantDepthwiseConv2D

# Layers with a kernel, a bias and an activation; a fused activation is one of `FUSED`.
WEIGHTED = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    QuantConv2D,
    QuantConv2DTranspose,
    QuantDepthwiseConv2D,
    QuantDense,
)
FUSED = ("linear", "relu", "relu6", "hard_sigmoid")
# Operations on tensors (`keras.ops`, `y + x`, `keras.activations.relu(x)`), by the names of their types.
_ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "HardSilu": "hard_silu",
    "HardSigmoid": "hard_sigmoid",
    "Silu": "silu",
    "Softmax": "softmax",
}
_OF_TWO = {"Add": keras.layers.Add, "Multiply": keras.layers.Multiply}


def normal_form(model: keras.Model) -> keras.Model:
    """The normal form of a functional or Sequential model; the model itself if it has that form.

    Sums and products of two tensors and common activations, written as operations, become layers. So does the hard
    sigmoid that is written as `relu6(x + 3) / 6`.

    Raises:
        UnsupportedModelError: the model is of another kind, or a layer cannot be copied. The message has its name.
    """
    nodes = nodes_of(model)
    if all(_is_normal(node.operation) and _layer_of(node) is None for node in nodes):
        return model
    if any(is_nested(node.operation) for node in nodes):
        model = rebuilt(model)
        nodes = nodes_of(model)
    for node in nodes:
        if isinstance(node.operation, keras.layers.Lambda):
            raise unsupported(node.operation, "expected layers with a known computation, received a function")
    twins: dict[int, Any] = _hard_sigmoids(model, nodes)
    of_operation = {id(node.operation): node for node in nodes}

    def replace(operation: Any) -> Any:
        if id(operation) in twins:
            return twins[id(operation)]
        layer = _layer_of(of_operation[id(operation)])
        return layer if layer is not None else _expanded(operation)

    def call(layer: Any, *args: Any, node: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.layers.Layer) and not isinstance(node.operation, keras.layers.Layer):
            tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, keras.KerasTensor)]
            return layer(tensors if len(tensors) > 1 else tensors[0])
        if not isinstance(layer, keras.layers.Layer):  # an expansion knows no masks
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
        return layer(*args, **kwargs)

    # An expansion may itself hold what has to be expanded.
    return normal_form(rebuilt(model, replace, call))


def refuse_unusable(model: keras.Model) -> None:
    """Raises `UnsupportedModelError` for weights that Keras has quantized itself, and for those that are not finite."""
    for node in nodes_of(model):
        layer = node.operation
        if is_nested(layer):
            refuse_unusable(layer)
        elif mode := getattr(layer, "quantization_mode", None):
            raise unsupported(layer, f"quantized by Keras ({mode}), expected float weights")
        elif not all(np.isfinite(np.asarray(w)).all() for w in getattr(layer, "weights", ()) if _is_own(w)):
            raise unsupported(layer, "weights that are not finite")


def _is_own(weight: Any) -> bool:
    """Whether a weight is a layer's own float; those of quantizers are NaN until they are set."""
    return "quantizer" not in weight.path and keras.backend.is_float_dtype(weight.dtype)


def _is_normal(operation: Any) -> bool:
    whole = not is_nested(operation) and not isinstance(operation, keras.layers.Lambda)
    return whole and _expanded(operation, probe=True) is None


def _expanded(operation: Any, probe: bool = False) -> Callable[..., Any] | None:
    """The function that computes an operation by several layers, or None if it needs none; `probe` builds nothing."""
    if (expand := expansion_of(operation)) is not None:
        return expand
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    if not isinstance(operation, WEIGHTED) or name in FUSED:
        return None
    if probe:
        return _with_activation_apart
    return _with_activation_apart(operation)


def _with_activation_apart(layer: keras.layers.Layer) -> Callable[..., Any]:
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    activation = keras.layers.Activation(layer.activation, dtype=layer.dtype_policy, name=f"{layer.name}_activation")

    def call(x: Any) -> Any:
        y = activation(linear(x))
        if layer.weights and len(linear.weights) == len(layer.weights):
            linear.set_weights(layer.get_weights())
        return y

    return call


def _layer_of(node: Any) -> keras.layers.Layer | None:
    """The layer that computes the same as an operation on tensors, or None."""
    operation, kind = node.operation, type(node.operation).__name__
    if isinstance(operation, keras.layers.Layer):
        return None
    shapes = [tuple(t.shape[1:]) for t in node.input_tensors]
    if kind in _OF_TWO:
        return _OF_TWO[kind](name=operation.name) if len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) else None
    if kind == "ReLU":  # keras.activations.relu
        settings = {name: getattr(operation, name) for name in ("max_value", "negative_slope", "threshold")}
        return keras.layers.ReLU(**settings, name=operation.name)
    if kind in _ACTIVATIONS and getattr(operation, "axis", -1) == -1:
        return keras.layers.Activation(_ACTIVATIONS[kind], name=operation.name)
    return None


def _passed(*arguments: Any) -> Any:
    """Stands for an operation that the layer after it computes."""
    return next(x for x in arguments if isinstance(x, keras.KerasTensor))


def _hard_sigmoids(model: keras.Model, nodes: Sequence[Any]) -> dict[int, Any]:
    """`{id(operation or layer): replacement}` for the parts of each `relu6(x + 3) * (1 / 6)` in the model."""
    by_output = {id(t): node for node in nodes for t in node.output_tensors}
    uses = collections.Counter(id(t) for node in nodes for t in node.input_tensors)
    uses.update(map(id, model.outputs))
    calls = collections.Counter(id(node.operation) for node in nodes)
    twins: dict[int, Any] = {}
    for last in nodes:
        middle = by_output.get(id(last.input_tensors[0])) if last.input_tensors else None
        first = by_output.get(id(middle.input_tensors[0])) if middle and middle.input_tensors else None
        if first is None or middle is None or not _is_relu6(middle.operation):
            continue
        chain = (first, middle, last)
        alone = all(uses[id(node.output_tensors[0])] == 1 for node in chain[:2])
        alone &= all(calls[id(node.operation)] == 1 for node in chain)
        scaled = _with_constant(last, "Multiply", 1 / 6) or _with_constant(last, "TrueDivide", 6.0)
        if alone and scaled and _with_constant(first, "Add", 3.0):
            twins[id(first.operation)] = twins[id(middle.operation)] = _passed
            twins[id(last.operation)] = keras.layers.Activation("hard_sigmoid", name=last.operation.name)
    return twins


def _is_relu6(operation: keras.Operation) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.relu6
    settings = [getattr(operation, name, None) for name in ("max_value", "negative_slope", "threshold")]
    return type(operation).__name__ == "Relu6" or (type(operation).__name__ == "ReLU" and settings == [6.0, 0.0, 0.0])


def _with_constant(node: Any, kind: str, number: float) -> bool:
    """Whether a node is an operation of this kind on one tensor and this number; a division is by the number."""
    values = (*node.arguments.args, *node.arguments.kwargs.values())
    numbers = [x for x in values if isinstance(x, int | float)]
    if type(node.operation).__name__ != kind or len(node.input_tensors) != 1 or len(numbers) != 1:
        return False
    return abs(numbers[0] - number) < 1e-6 and (kind != "TrueDivide" or values[-1] is numbers[0])
