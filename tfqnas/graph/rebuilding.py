"""Builds a copy of a Keras model call by call, with other layers in the place of some."""

import collections
from collections.abc import Callable
from typing import Any

import keras

from tfqnas.errors import UnsupportedModelError
from tfqnas.graph.keras_internals import ends_of, filled, input_names, is_nested, nodes_of


def unsupported(layer: keras.Operation, why: str) -> UnsupportedModelError:
    """The error for a Keras layer or operation without an integer form; `why` may be empty."""
    return UnsupportedModelError(f"layer {layer.name} ({type(layer).__name__}): no integer form{why and ': '}{why}")


def rebuilt(
    model: keras.Model,
    replace: Callable[[Any], Any] | None = None,
    call: Callable[..., Any] | None = None,
    input_shape: tuple[int | None, ...] | None = None,
) -> keras.Model:
    """A functional copy of a model, with the values of its weights. Models inside the model become their layers.

    A layer that the model calls several times is one layer of the copy too.

    Args:
        model: functional or Sequential `keras.Model`.
        replace: function of a layer that returns its replacement, or None for a copy. A replacement is a layer, or a
            function of the arguments of the call that returns its result.
        call: function of a copied or replaced layer, the arguments of its call, and `node`, the Keras node of the call
            in the old model; it returns the result.
        input_shape: shape of the copy's only input without the batch axis, such as (height, width, channels); None
            keeps the model's.
    """
    return _Rebuilding(replace, call).of(model, input_shape)


class _Rebuilding:
    def __init__(self, replace: Callable[[Any], Any] | None, call: Callable[..., Any] | None) -> None:
        self.replace, self.call = replace, call
        self.twins: dict[int, tuple[Any, Any]] = {}  # id -> (layer, its copy); the layer is kept so that the id is its
        self.names: collections.Counter[str] = collections.Counter()

    def of(self, model: keras.Model, input_shape: tuple[int | None, ...] | None) -> keras.Model:
        given = []
        for name, tensor in zip(input_names(model), model.inputs, strict=True):
            self.names[name] += 1
            batch = tensor.shape if input_shape is None else (None, *input_shape)
            given.append(keras.Input(batch_shape=batch, dtype=tensor.dtype, name=name))
        tensors = self.replayed(model, given, "")
        starts, ends = ends_of(model)
        ends = keras.tree.map_structure(lambda t: tensors[id(t)], ends)
        # A single input is no list, as it is in old files, since Keras warns of it in every call.
        starts = (
            given[0] if len(given) == 1 and not isinstance(starts, dict) else keras.tree.pack_sequence_as(starts, given)
        )
        copy = keras.Model(starts, ends, name=model.name)
        for layer, twin in self.twins.values():
            if isinstance(twin, keras.layers.Layer):
                _copy_weights(layer, twin)
        return copy

    def replayed(self, model: keras.Model, given: list[Any], prefix: str) -> dict[int, Any]:
        """`{id of a Keras tensor of the model: its tensor in the copy}`, for these inputs."""
        tensors = {id(old): new for old, new in zip(model.inputs, given, strict=True)}
        for node in nodes_of(model):
            if isinstance(node.operation, keras.layers.InputLayer):
                continue
            args, kwargs = filled(node, tensors)
            results = keras.tree.flatten(self.called(node, args, kwargs, prefix))
            tensors.update((id(old), new) for old, new in zip(node.output_tensors, results, strict=True))
        return tensors

    def called(self, node: Any, args: tuple[Any, ...], kwargs: dict[str, Any], prefix: str) -> Any:
        operation = node.operation
        if is_nested(operation) and (self.replace is None or self.replace(operation) is None):
            inner = self.replayed(operation, keras.tree.flatten(args[0]), f"{prefix}{operation.name}_")
            return [inner[id(t)] for t in operation.outputs]
        if id(operation) not in self.twins:
            twin = self.replace(operation) if self.replace else None
            if twin is None:
                twin = self.copied(operation, prefix)
            self.twins[id(operation)] = operation, twin
        twin = self.twins[id(operation)][1]
        return self.call(twin, *args, node=node, **kwargs) if self.call else twin(*args, **kwargs)

    def copied(self, layer: Any, prefix: str) -> Any:
        """A copy with the layer's name; in a model in the model with that model's name before it if it is taken."""
        name = layer.name if not self.names[layer.name] else f"{prefix}{layer.name}"
        self.names[layer.name] += 1
        if name != layer.name:
            self.names[name] += 1
            name += f"_{self.names[name] - 1}" if self.names[name] > 1 else ""
        try:
            return type(layer).from_config({**layer.get_config(), "name": name})
        except (TypeError, ValueError, NotImplementedError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise unsupported(layer, f"it cannot be rebuilt from its configuration ({reason})") from None


def _copy_weights(layer: Any, twin: keras.layers.Layer) -> None:
    """Gives the weights of a layer to another one, by the ends of their paths."""
    values = {v.path.removeprefix(layer.path): v for v in getattr(layer, "weights", ())}
    for variable in twin.weights:
        if (source := values.get(variable.path.removeprefix(twin.path))) is not None:
            variable.assign(source)
