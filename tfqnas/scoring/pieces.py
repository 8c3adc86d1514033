"""Divides a supernet into pieces that are traced once and serve every architecture."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfqnas.supernet import Supernet


class Parts:
    """The beginning, the blocks and the end of a supernet, each traced on first use.

    Every piece comes in two kinds. With `collect`, BatchNorm normalises by the batch's statistics and returns them too.
    Without it, statistics are an argument, a list of float32 (2, channels), and are folded into the convolutions.

    Block `n` consists of pieces `2 n` (its expansion) and `2 n + 1` (the rest), as in a path of `path_of`, since the
    expansion does not depend on the kernel size.

    Args:
        supernet: `Supernet`.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._net = supernet
        self._index = tf.TensorSpec((), tf.int32)
        self.pieces = 2 * len(supernet.blocks)
        self.begin_observers, self.end_observers = [supernet.stem_norm], supernet.end_observers

    def observers_of(self, place: int) -> list[Any]:
        """The layers of a piece that observe statistics, in the order in which the piece returns them."""
        return self._net.blocks[place // 2].observers_of_halves[place % 2]

    @functools.cache  # noqa: B019  the traces live as long as the pieces
    def begin(self, collect: bool) -> Callable[..., Any]:
        """A function `((images,)[, statistics])` that returns the state before the first block."""
        net = self._net
        x = tf.TensorSpec((None, None, None, net.settings["channels"]))
        compute = lambda x, given, collected: net.begin(x, given, collected, not collect)  # noqa: E731
        return functools.partial(_call, _piece(compute, (x,), self.begin_observers, collect), [], False)

    def piece(self, place: int, choice: tuple[int, ...], collect: bool) -> Callable[..., Any]:
        """A function `(state[, statistics])` that returns the next state, a tuple of tensors.

        With `collect` the function returns a pair of the state and the statistics.

        Args:
            place: index of the piece.
            choice: the element of a path at this index, not empty.
            collect: see the class.
        """
        if place % 2:
            kernel, expand, *bits = choice
            rest = self._rest(place, collect)
            return functools.partial(_call, rest, [_scalar(kernel), _scalar(expand), *_pairs(tuple(bits))], False)
        expand, *bits = choice
        return functools.partial(_call, self._expansion(place, collect), [_scalar(expand), *_pairs(tuple(bits))], True)

    def _x(self, layer: keras.layers.Layer) -> tf.TensorSpec:
        return tf.TensorSpec((None, None, None, layer.convolutions[0].kernel.shape[2]))

    @functools.cache  # noqa: B019
    def _expansion(self, place: int, collect: bool) -> Callable[..., Any]:
        net, number, layer = self._net, place // 2, self._net.blocks[place // 2]
        bits = _pairs_spec(net, layer.convolutions[:1])

        def compute(x: tf.Tensor, expand: tf.Tensor, *others: Any) -> tf.Tensor:
            *bits, given, collected = others
            return net.expansion(number, x, expand, bits[0] if bits else None, given, collected, not collect)

        return _piece(compute, (self._x(layer), self._index, *bits), self.observers_of(place), collect)

    @functools.cache  # noqa: B019
    def _rest(self, place: int, collect: bool) -> Callable[..., Any]:
        net, number, layer = self._net, place // 2, self._net.blocks[place // 2]
        expanded = [tf.TensorSpec((None, None, None, None))] if layer.expand is not None else []
        bits = _pairs_spec(net, layer.convolutions[len(expanded) :])

        def compute(x: tf.Tensor, *others: Any) -> tf.Tensor:
            y, (kernel, expand, *rest) = (others[0], others[1:]) if expanded else (x, others)
            *own, given, collected = rest
            # The bit widths of the expansion belong to its own piece; zeros stand in their place.
            widths = tf.pad(own[0], ((len(expanded), 0), (0, 0))) if own else None
            return net.after_expansion(number, x, y, kernel, expand, widths, given, collected, not collect)

        signature = (self._x(layer), *expanded, self._index, self._index, *bits)
        return _piece(compute, signature, self.observers_of(place), collect)

    def end(self, bits: tuple[int, ...], collect: bool) -> Callable[..., Any]:
        """A function `(state[, statistics])` that returns the logits as a state of one tensor.

        `bits` is the last element of a path.
        """
        return functools.partial(_call, self._end(collect), _pairs(bits), False)

    @functools.cache  # noqa: B019
    def _end(self, collect: bool) -> Callable[..., Any]:
        net = self._net
        x = tf.TensorSpec((None, None, None, net.head.kernel.shape[2]))
        bits = _pairs_spec(net, [layer for layer in (net.head, net.feature) if layer is not None])

        def compute(x: tf.Tensor, *others: Any) -> tf.Tensor:
            *bits, given, collected = others
            return net.end(x, given, collected, bits=bits[0] if bits else None, folded=not collect)

        return _piece(compute, (x, *bits), self.end_observers, collect)


@functools.cache
def _scalar(value: int) -> tf.Tensor:
    return tf.constant(value)


@functools.cache
def _pairs(bits: tuple[int, ...]) -> list[tf.Tensor]:
    """Bit widths as the arguments of a piece: none, or one int32 (convolutions, 2)."""
    return [tf.reshape(tf.constant(bits, tf.int32), (-1, 2))] if bits else []


def _pairs_spec(net: Supernet, convolutions: Sequence[keras.layers.Layer]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((len(convolutions), 2), tf.int32)] if net.space.mixed else []


def _call(
    piece: Callable[..., Any], choice: Sequence[tf.Tensor], keeps: bool, state: Sequence[tf.Tensor], *statistics: Any
) -> Any:
    """The state after a piece, which includes the tensors of the state before if the piece `keeps` them."""
    results = piece(*state, *choice, *statistics)
    before = tuple(state) if keeps else ()
    if statistics:
        return (*before, results)
    y, own = results
    return (*before, y), own


def _piece(
    compute: Callable[..., tf.Tensor], signature: Sequence[Any], observers: Sequence[Any], collect: bool
) -> Callable[..., Any]:
    if collect:

        def collecting(*inputs: Any) -> tuple[tf.Tensor, list[tf.Tensor]]:
            collected: list[tf.Tensor] = []
            return compute(*inputs, None, collected), collected

        return _traced(collecting, signature)
    statistics = [tf.TensorSpec((2, o.statistics_size)) for o in observers]
    return _traced(lambda *inputs: compute(*inputs[:-1], iter(inputs[-1]), None), (*signature, statistics))


def _traced(function: Callable[..., Any], signature: Sequence[Any]) -> Callable[..., Any]:
    # A concrete function: TensorFlow would take the traces of many pieces for retraces of one function, and warn.
    return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def with_fixed_weights(supernet: Supernet) -> Supernet:
    """A copy of the supernet with fake-quantized weights, or the supernet itself if that would change its subnets.

    An elementwise quantizer commutes with taking a slice of the weights, but not with a learned kernel transform before
    it.
    """
    prototype = supernet.settings["weights"]
    if prototype is None or not prototype.traits.elementwise or supernet.settings["kernel_transform"]:
        return supernet
    fixed = supernet.like(weights=None)
    sources = {variable.path: variable for variable in supernet.variables}
    quantized = {layer.kernel.path: layer.quantized_kernel(layer.kernel) for layer in _convolutions(supernet)}
    for target in fixed.variables:
        target.assign(quantized.get(target.path, sources[target.path]))
    return fixed


def _convolutions(supernet: Supernet) -> list[keras.layers.Layer]:
    """The convolutions that have a weight quantizer."""
    layers = [layer for block in supernet.blocks for layer in (block.expand, block.depthwise, block.project)]
    return [layer for layer in (*layers, supernet.head, supernet.feature) if layer is not None]
