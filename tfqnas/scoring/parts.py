"""A supernet in pieces, each traced once for every architecture."""

import functools

import tensorflow as tf


class Parts:
    """The beginning, the blocks and the end of a supernet, each traced when it is first asked for.

    Every piece comes in two kinds: with `collect` BatchNorm normalises by the batch's statistics and they are returned
    besides; without it they are an argument, a list of float32 (2, channels).

    Args:
        supernet: `Supernet`.
    """

    def __init__(self, supernet):
        self._net = supernet
        self._index = tf.TensorSpec((), tf.int32)
        self.blocks = len(supernet.blocks)
        self.begin_observers, self.end_observers = [supernet.stem_norm], supernet.end_observers

    def observers_of(self, number):
        """Those of a block, in the order of its statistics."""
        return self._net.blocks[number].observers

    @functools.cache  # noqa: B019  as long as the pieces live, so do their traces
    def begin(self, collect):
        """`(images[, statistics])` -> the first block's input."""
        net = self._net
        x = tf.TensorSpec((None, None, None, net.settings["channels"]))
        compute = lambda x, given, collected: net.begin(x, given, collected)  # noqa: E731
        return _piece(compute, (x,), self.begin_observers, collect)

    def block(self, number, choice, collect):
        """`(x[, statistics])` -> the next block's input; `choice`: its place in a path of `path_of`."""
        kernel, expand, *bits = choice
        arguments = [_scalar(kernel), _scalar(expand), *_pairs(tuple(bits))]
        return functools.partial(_call, self._block(number, collect), arguments)

    @functools.cache  # noqa: B019
    def _block(self, number, collect):
        net, layer = self._net, self._net.blocks[number]
        x = tf.TensorSpec((None, None, None, layer.convolutions[0].kernel.shape[2]))
        bits = _pairs_spec(net, layer.convolutions)

        def compute(x, kernel, expand, *others):
            *bits, given, collected = others
            of_norms = None if given is None else list(given)
            y, own = net.block(number, x, kernel, expand, *(bits or [None]), of_norms, collect)
            if collect:
                collected.extend(own)
            return y

        return _piece(compute, (x, self._index, self._index, *bits), layer.observers, collect)

    def end(self, bits, collect):
        """`(x[, statistics])` -> logits; `bits`: the last place in a path."""
        return functools.partial(_call, self._end(collect), _pairs(bits))

    @functools.cache  # noqa: B019
    def _end(self, collect):
        net = self._net
        x = tf.TensorSpec((None, None, None, net.head.kernel.shape[2]))
        bits = _pairs_spec(net, [layer for layer in (net.head, net.mix) if layer is not None])

        def compute(x, *others):
            *bits, given, collected = others
            return net.end(x, given, collected, bits=bits[0] if bits else None)

        return _piece(compute, (x, *bits), self.end_observers, collect)


@functools.cache
def _scalar(value):
    return tf.constant(value)


@functools.cache
def _pairs(bits):
    """Bit widths in a row as what a piece takes: nothing, or one int32 (convolutions, 2)."""
    return [tf.reshape(tf.constant(bits, tf.int32), (-1, 2))] if bits else []


def _pairs_spec(net, convolutions):
    return [tf.TensorSpec((len(convolutions), 2), tf.int32)] if net.space.mixed else []


def _call(block, choice, x, *statistics):
    return block(x, *choice, *statistics)


def _piece(compute, signature, observers, collect):
    if collect:

        def collecting(*inputs):
            collected = []
            return compute(*inputs, None, collected), collected

        return _traced(collecting, signature)
    statistics = [tf.TensorSpec((2, o.statistics_size)) for o in observers]
    return _traced(lambda *inputs: compute(*inputs[:-1], iter(inputs[-1]), None), (*signature, statistics))


def _traced(function, signature):
    # Concrete: TensorFlow would take the traces of the many pieces for retraces of one function, and warn.
    return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def with_fixed_weights(supernet):
    """The supernet with its weights fake-quantized once and for all, where that is the same: a new one or itself.

    An elementwise quantizer commutes with the slices that a subnet is made of, but not with a learned transform of
    kernels before it.
    """
    prototype = supernet.settings["weights"]
    if prototype is None or not prototype.elementwise or supernet.settings["kernel_transform"]:
        return supernet
    fixed = supernet.like(weights=None)
    sources = {variable.path: variable for variable in supernet.variables}
    quantized = {layer.kernel.path: layer.quantized_kernel(layer.kernel) for layer in _convolutions(supernet)}
    for target in fixed.variables:
        target.assign(quantized.get(target.path, sources[target.path]))
    return fixed


def _convolutions(supernet):
    """The convolutions that have a weight quantizer."""
    layers = [layer for block in supernet.blocks for layer in (block.expand, block.depthwise, block.project)]
    return [layer for layer in (*layers, supernet.head, supernet.mix) if layer is not None]
