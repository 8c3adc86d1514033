"""Reads a Keras model as sites: computations that become one integer operation, with BatchNorm and activation.

`quantize` puts quantizers into the sites of a model, and the exporter lowers them. What a layer or an operation becomes
is in `kinds`. The model is expected in its `normal.normal_form`.
"""

import collections
from typing import Any

import keras

from tfqnas.graph import kinds  # noqa: F401  registers all kinds
from tfqnas.graph.keras_internals import is_operation, named, nodes_of
from tfqnas.graph.kinds.base import REGISTER, Call, Reader
from tfqnas.graph.rebuilding import unsupported
from tfqnas.graph.sites import Site


def sites_of(model: keras.Model) -> list[Site]:
    """The `Site`s of a functional or Sequential model in topological order, quantizers among them.

    Raises:
        UnsupportedModelError: a layer or connection has no integer form. The message has its name and type.
    """
    nodes = nodes_of(model)
    reader = Reader(node.operation.name for node in nodes)
    uses = collections.Counter(id(t) for node in nodes for t in node.input_tensors)
    uses.update(id(t) for t in model.outputs)
    by_tensor: dict[int, Site] = {}
    for node in nodes:
        for tensor, site in zip(node.output_tensors, _read(reader, node, by_tensor), strict=True):
            by_tensor[id(tensor)] = site
            part = site
            while True:  # a reshape behind a convolution has the tensor of what is absorbed, and so has the convolution
                part.tensor = tensor
                if uses[id(tensor)] > 1:
                    reader.branched.add(id(part))
                if part.kind != "reshape" or id(part.inputs[0]) in reader.branched:
                    break
                part = part.inputs[0]
    return _finished(reader.sites, [by_tensor[id(t)] for t in model.outputs])


def _read(reader: Reader, node: Any, by_tensor: dict[int, Site]) -> list[Site]:
    layer = node.operation
    if isinstance(layer, keras.layers.InputLayer):
        return [reader.new(Call(layer, {}, [], node.output_tensors), "input")]
    if getattr(layer, "data_format", None) not in (None, "channels_last"):
        raise unsupported(layer, f"data format {layer.data_format}, expected channels_last")
    function = REGISTER.get(type(layer).__name__ if is_operation(layer) else type(layer))
    if function is None:
        known = ", ".join(sorted(name for name in REGISTER if isinstance(name, str)))
        raise unsupported(layer, "" if isinstance(layer, keras.layers.Layer) else f"expected layers or one of {known}")
    arguments = named(node, by_tensor)
    sites = [x for x in keras.tree.flatten(arguments) if isinstance(x, Site)]
    if not sites:
        raise unsupported(layer, "it reads no tensor")
    made = function(reader, Call(layer, arguments, sites, node.output_tensors))
    return [made] if isinstance(made, Site) else list(made)


def _finished(sites: list[Site], outputs: list[Site]) -> list[Site]:
    """The sites that the outputs need, with their readers."""
    needed = {id(site) for site in outputs}
    for site in reversed(sites):
        if id(site) in needed:
            needed.update(id(read) for read in site.inputs)
    sites = [site for site in sites if id(site) in needed or site.kind == "input"]
    for site in sites:
        for read in site.inputs:
            read.readers.append(site)
    for place, site in enumerate(outputs):
        site.places += (place,)
    return sites
