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
        largest = max(len(choices) for stage in supernet.space.stages for choices in (stage.kernels, stage.expands))
        self._indices = [tf.constant(i) for i in range(largest)]

    @functools.cache  # noqa: B019  as long as the pieces live, so do their traces
    def begin(self, collect):
        """`(images[, statistics])` -> the first block's input."""
        net = self._net
        x = tf.TensorSpec((None, None, None, net.settings["channels"]))
        return _piece(lambda x, given, collected: net.begin(x, given, collected), (x,), [net.stem_norm], collect)

    def block(self, number, choice, collect):
        """`(x[, statistics])` -> the next block's input; `choice`: indices of its kernel size and its expand ratio."""
        return functools.partial(_call, self._block(number, collect), [self._indices[i] for i in choice])

    @functools.cache  # noqa: B019
    def _block(self, number, collect):
        net, layer = self._net, self._net.blocks[number]
        convolution = layer.expand if layer.expand is not None else layer.depthwise
        x = tf.TensorSpec((None, None, None, convolution.kernel.shape[2]))

        def compute(x, kernel, expand, given, collected):
            y, own = net.block(number, x, kernel, expand, None if given is None else list(given), collect)
            if collect:
                collected.extend(own)
            return y

        return _piece(compute, (x, self._index, self._index), layer.norms, collect)

    @functools.cache  # noqa: B019
    def end(self, collect):
        """`(x[, statistics])` -> logits."""
        net = self._net
        x = tf.TensorSpec((None, None, None, net.head.kernel.shape[2]))
        return _piece(lambda x, given, collected: net.end(x, given, collected), (x,), [net.head_norm], collect)


def _call(block, choice, x, *statistics):
    return block(x, *choice, *statistics)


def _piece(compute, signature, norms, collect):
    if collect:

        def collecting(*inputs):
            collected = []
            return compute(*inputs, None, collected), collected

        return _traced(collecting, signature)
    statistics = [tf.TensorSpec((2, norm.gamma.shape[0])) for norm in norms]
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
