"""Lowers a Keras model to an `IntGraph`, with the help of calibration images.

The learned step of a layer's input quantizer is kept to the bit: it is the scale of the tensor in the file. Tensors
without a quantizer (residual stream, squeeze-excite, pooling, inputs of h-swish) get 8 bits and a range from the
images. The integers are chosen as follows:

- A `b`-bit tensor has its highest code at 127, so that int8 saturation clips above; a fused RELU clips below.
- A signed `b`-bit tensor takes two operations. The first writes its lowest code to -128, where int8 saturates; a
  product with one then moves it.
- All tensors that additions connect share scale and zero point, so that a sum rounds nothing.
- The input of an h-swish ends where the output reaches its highest code. It starts at zero if negative values are
  clipped anyway.
- The hard sigmoid of a gate is its convolution divided by six, in a tensor that saturates at 0 and at 1.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tflite_export import ties
from tflite_export.calibrate import common_range, values_of
from tflite_export.folding import ExportError, Grid, finer, folded, grid_of, refuse_non_uniform, wide_grid
from tflite_export.inputs import checked_images, checked_normalization
from tflite_export.int_graph import CONVOLUTIONS, UNSCALED, IntGraph, IntOp, IntTensor, limits, ratios
from tfqnas.errors import UnsupportedModelError
from tfqnas.graph.reading import MOVES, ONE_SCALE, Site, has_fixed_grid, is_summed, sites_of, streams_of, wanted
from tfqnas.graph.rewriting import as_layers
from tfqnas.quantizers.ranges import METHODS

_STORAGES = ("int8", "packed")
# Integer kernels requantize with factors between these two.
RATIOS = (2.0**-31, 256.0)


def lower(
    model: keras.Model,
    images: np.ndarray,
    calibration: str = "percentile",
    normalization: tuple[float, float] = (128.0, 128.0),
    metadata: Mapping[str, Any] | None = None,
    storage: str = "int8",
) -> IntGraph:
    """The integer form of a Keras model.

    Args:
        model: functional or Sequential `keras.Model`, with or without quantizers, of the layers that
            `tfqnas.graph.reading.sites_of` supports and the tensor operations that
            `tfqnas.graph.rewriting.as_layers` supports.
        images: normalised calibration images, float32 (n, height, width, channels).
        calibration: how the ranges of the 8-bit tensors are found: "min_max", "percentile", "mse" or "kl".
        normalization: `(mean, divisor)` of the pixels; the mean is an integer.
        metadata: JSON-able values for the file, which may hold numpy numbers; the normalization is added.
        storage: "int8" stores one weight per byte. "packed" stores weights of up to 4 bits as INT4, and those of 2-bit
            dense layers as INT2. Packed codes leave no room for finer biases, and their kernels are slower and round
            differently.

    Returns:
        `IntGraph` from int8 pixels (pixel - 128) to int8 logits.

    Raises:
        ExportError: no exact integer form exists. The message names the layer and the value.
    """
    try:
        model = as_layers(model)
        sites = sites_of(model)
    except UnsupportedModelError as error:
        raise ExportError(str(error)) from None
    mean, divisor = checked_normalization(normalization)
    images = checked_images(images, model.name, model.input_shape[1:], mean, divisor)
    if storage not in _STORAGES:
        raise ExportError(f"storage: expected one of {', '.join(_STORAGES)}, received {storage!r}")
    if calibration not in METHODS:
        raise ExportError(f"calibration: expected one of {', '.join(METHODS)}, received {calibration!r}")
    refuse_non_uniform(sites)
    metadata = {**_plain(metadata or {}), "normalization": f"(x - {mean:g}) / {divisor:g}"}
    return _Lowering(model, sites, images, calibration, (mean, divisor), storage).graph(metadata)


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it is after a round trip through JSON."""
    try:
        return json.loads(json.dumps(metadata, default=lambda value: value.tolist(), allow_nan=False))  # numpy values
    except (TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"metadata: expected JSON values, such as texts, numbers and lists ({error})") from None


class _Lowering:
    def __init__(
        self,
        model: keras.Model,
        sites: list[Site],
        images: np.ndarray,
        calibration: str,
        normalization: tuple[float, float],
        storage: str,
    ) -> None:
        self.model, self.sites, self.calibration, self.normalization = model, sites, calibration, normalization
        self.storage = storage
        self.streams = streams_of(sites)
        self.values = values_of(model, _calibrated(model, sites, self.streams), images)
        self.tensors: dict[str, IntTensor] = {}
        self.ops: list[IntOp] = []
        self.versions: dict[
            tuple[int, Grid | None], str
        ] = {}  # (site, grid or None for its own 8 bits) -> name of the tensor
        self.shared: dict[int, Grid] = {}  # stream -> its grid

    def graph(self, metadata: dict[str, Any]) -> IntGraph:
        for site in self.sites:
            self._make(site)
        output = self.versions[id(self.sites[-1]), None]
        name = self.sites[0].name
        graph = IntGraph(self.tensors, tuple(self.ops), name, output, self.normalization, metadata)
        graph = saturated(graph)
        check(graph)
        return ties.without(graph)

    # Choosing the integers

    def _grids(self, site: Site) -> list[Grid | None]:
        """The distinct grids on which readers want a site's tensor. None is the tensor's 8-bit grid and comes first."""
        found = set()
        for reader in site.readers:
            for place, read in enumerate(reader.inputs):
                if read is site:
                    grid = self._input_grid(reader, place)
                    through = grid is None and reader.kind in MOVES
                    found |= set(self._grids(reader)) if through else {grid}
        own = has_fixed_grid(site) or is_summed(self.streams[id(site)]) or site.kind in ONE_SCALE
        if own or not site.readers:
            found.add(None)
        return sorted(found, key=lambda g: (g is not None, g and (g.bits, g.scale)))

    def _input_grid(self, site: Site, place: int) -> Grid | None:
        """The grid on which a site reads one of its inputs; None is the input's own 8-bit grid."""
        read, quantizer = site.inputs[place], site.edges[place]
        if quantizer is not None:
            grid = grid_of(site, quantizer)
        elif site.kind == "add" and self.streams[id(site)] is not self.streams[id(read)]:
            grid = self._wide(site)
        else:
            return None
        return None if grid.bits == 8 and grid == self._wide(read) else grid

    def _wide(self, site: Site) -> Grid:
        """The 8-bit grid of a site's tensor."""
        stream = self.streams[id(site)]
        if id(stream) not in self.shared:
            self.shared[id(stream)] = self._common(stream)
        return self.shared[id(stream)]

    def _common(self, stream: Sequence[Site]) -> Grid:
        """The grid that sites share: a fixed grid, else the grid of their quantizer, else a calibrated grid."""
        fixed = next((site for site in stream if has_fixed_grid(site)), None)
        if fixed is not None:
            return self._fixed(fixed)
        given = {grid_of(site, site.stored): site for site in stream if site.stored is not None}
        if len(given) > 1:
            raise ExportError(
                f"layer {stream[0].name}: tensors that additions connect share one grid, but the quantizers of "
                f"{' and '.join(site.name for site in given.values())} differ"
            )
        if given:
            return next(iter(given))
        tensors = [site.tensor for site in stream]
        tensors += [read.tensor for site in stream if site.kind == "add" for read in site.inputs]
        values = [self.values[id(t)] for t in tensors if id(t) in self.values]
        return wide_grid(*common_range(values, self.calibration), stream[0].name)

    def _fixed(self, site: Site) -> Grid:
        if site.kind == "input":
            mean, divisor = self.normalization
            return Grid(np.float32(1 / divisor), int(mean) - 128)
        if site.kind == "softmax":
            return Grid(np.float32(1 / 256), -128, signed=False)
        if site.activation == "hard_sigmoid":
            return Grid(np.float32(1 / 255), -128, signed=False)
        edge = site.edges[0]
        assert edge is not None  # otherwise the site would share the grid of its input
        grid = grid_of(site, edge)
        if site.kind in ONE_SCALE and grid.bits != 8:
            raise ExportError(f"layer {site.name}: it rounds its input, expected 8 bits, received {grid.bits}")
        return grid

    # The operations

    def _make(self, site: Site) -> None:
        grids = self._grids(site)
        if site.kind in MOVES and site.edges[0] is None:
            for grid in grids:
                name = self._named(site, grid, grids)
                tensor = self._like(name, site, self.tensors[self._version(site, 0, grid)])
                self.versions[id(site), grid] = self._move(site, self._version(site, 0, grid), tensor)
            return
        if len(grids) > 1 and None not in grids:
            grids.insert(0, None)  # several quantizers read it, and each rounds the 8-bit tensor
        first, *others = grids
        source = self._compute(site, self._wide(site) if first is None else first)
        self.versions[id(site), first] = source
        for grid in filter(None, others):
            self.versions[id(site), grid] = self._clipped(site, source, grid, self._named(site, grid, grids))

    def _named(self, site: Site, grid: Grid | None, grids: Sequence[Grid | None]) -> str:
        """The name of a site's tensor on one of its grids. On the first grid it is the site's own name."""
        place = grids.index(grid)
        if grid is None or not place:
            return site.name
        return f"{site.name}/{grid.bits}_bits" + (f"_{place - 1}" if place > 1 else "")

    def _version(self, site: Site, place: int, grid: Grid | None = None) -> str:
        """The name of the tensor that a site reads."""
        return self.versions[id(site.inputs[place]), self._input_grid(site, place) or grid]

    def _like(self, name: str, site: Site, tensor: IntTensor) -> IntTensor:
        return dataclasses.replace(tensor, name=name, shape=site.shape)

    def _move(self, site: Site, source: str, tensor: IntTensor) -> str:
        return self._op(site.kind, (source,), site, tensor, _settings(site))

    def _compute(self, site: Site, grid: Grid) -> str:
        if site.kind == "input":
            return self._add(IntTensor(site.name, site.shape, np.array([grid.scale], np.float32), grid.zero_point))
        if site.kind in (*MOVES, *ONE_SCALE, "softmax"):
            return self._move(site, self._version(site, 0), _tensor(site.name, site.shape, grid))
        if site.activation == "hard_swish":
            inner = self._before_hard_swish(site, grid)
            before = self._emit(site, inner, f"{site.name}/before", activation="none")
            return self._finish("hard_swish", (before,), site, grid, clips=not inner.signed)
        return self._emit(site, grid, site.name, site.activation)

    def _before_hard_swish(self, site: Site, grid: Grid) -> Grid:
        if site.stored_before is not None:
            return grid_of(site, site.stored_before)
        if grid.signed:
            low, high = common_range([self.values[id(site.before)]], self.calibration)
            return wide_grid(max(low, -3.0), max(high, 1e-3), site.name)
        top = (2**grid.bits - 1 + 0.49) * float(grid.scale)
        return wide_grid(0.0, top if top >= 3 else (-3 + (9 + 24 * top) ** 0.5) / 2, site.name)

    def _emit(self, site: Site, grid: Grid, name: str, activation: str) -> str:
        """The operation of a site with its fused activation, and the products that its grid needs."""
        inputs = [self._version(site, place) for place in range(len(site.inputs))]
        if site.kind == "mean":
            return self._finish("mean", tuple(inputs), site, grid, name=name)
        options = {"activation": activation if activation in ("relu", "relu6") else "none"}
        if not grid.signed and options["activation"] == "none":
            options["activation"] = "relu"
        if site.kind in CONVOLUTIONS:
            inputs += self._constants(site, inputs[0], float(grid.scale), activation == "hard_sigmoid")
            options |= _settings(site)
        return self._finish(site.kind, tuple(inputs), site, grid, options, name, clips=True)

    def _finish(
        self,
        kind: str,
        inputs: tuple[str, ...],
        site: Site,
        grid: Grid,
        options: dict[str, Any] | None = None,
        name: str | None = None,
        clips: bool = False,
    ) -> str:
        """One operation with an output on `grid`, and a second operation if the first cannot clip below.

        `clips` says whether the operation yields no integer below the zero of an unsigned grid.
        """
        name, shape = name or site.name, site.shape
        if grid.bits == 8 or (clips and not grid.signed):
            return self._op(kind, inputs, site, _tensor(name, shape, grid), options or {})
        # A signed grid is first placed where int8 saturates below. On an unsigned grid the product's RELU clips.
        zero = grid.zero_point - (128 + grid.lowest if grid.signed else 0)
        wide = dataclasses.replace(grid, zero_point=zero)
        first = self._op(kind, inputs, site, _tensor(f"{name}/unclipped", shape, wide), options or {})
        return self._times_one(site, first, grid, name)

    def _clipped(self, site: Site, source: str, grid: Grid, name: str) -> str:
        """An 8-bit tensor on the grid of a quantizer, clipped at both ends."""
        if not grid.signed or grid.bits == 8:
            return self._times_one(site, source, grid, name)
        low = dataclasses.replace(grid, zero_point=grid.zero_point - 128 - grid.lowest)
        return self._times_one(site, self._times_one(site, source, low, f"{name}/unclipped"), grid, name)

    def _times_one(self, site: Site, source: str, grid: Grid, name: str) -> str:
        """A product with the constant one, which XNNPACK requantizes exactly; a RELU is fused for unsigned grids."""
        one = self._add(IntTensor(f"{name}/one", (1,), np.array([1], np.float32), 0, data=np.ones(1, np.int8)))
        tensor = _tensor(name, self.tensors[source].shape, grid)
        return self._op("mul", (source, one), site, tensor, {"activation": "none" if grid.signed else "relu"})

    def _op(self, kind: str, inputs: tuple[str, ...], site: Site, tensor: IntTensor, options: dict[str, Any]) -> str:
        self._add(tensor)
        self.ops.append(IntOp(kind, inputs, (tensor.name,), options, site.name))
        return tensor.name

    def _add(self, tensor: IntTensor) -> str:
        self.tensors[tensor.name] = tensor
        return tensor.name

    def _constants(self, site: Site, source: str, step: float, hard_sigmoid: bool) -> list[str]:
        """Weights and bias of a site whose output has this step."""
        x = self.tensors[source]
        axis = {"depthwise_conv_2d": 3}.get(site.kind, 0)
        weights = finer(folded(site, hard_sigmoid, self.storage), x.scale, step, axis)
        scale = x.scale * weights.scale
        bias = np.rint(weights.bias / scale.astype(np.float64))
        reach = np.abs(bias) + _largest_sum(x, weights.codes, axis)
        worst = reach.argmax()
        if reach[worst] >= 2**31:
            raise ExportError(
                f"layer {site.name}: the accumulator of channel {worst} may reach {reach[worst]:.3g}, expected less "
                f"than 2^31: its bias is {weights.bias[worst]:.3g} at a scale of {scale[worst]:.3g}"
            )
        kernel = IntTensor(
            f"{site.name}/weights",
            weights.codes.shape,
            weights.scale,
            0,
            weights.dtype,
            weights.codes,
            axis,
            weights.bits,
        )
        bias = IntTensor(f"{site.name}/bias", bias.shape, scale, 0, "int32", bias.astype(np.int32), axis=0)
        return [self._add(kernel), self._add(bias)]


def _calibrated(model: keras.Model, sites: list[Site], streams: Mapping[int, list[Site]]) -> list[keras.KerasTensor]:
    """The Keras tensors whose ranges are calibrated. Most tensors have one reader with a quantizer and need none."""
    tensors = []
    for site in sites:
        stream, readers = streams[id(site)], wanted(site)
        first = readers[0]
        eight = is_summed(stream) or site.kind in ONE_SCALE or None in readers or len(readers) > 1
        given = has_fixed_grid(site) or any(member.stored is not None for member in stream)
        if not given and (eight or first is None or first.bits == 8):
            tensors += [member.tensor for member in stream]
            tensors += [read.tensor for member in stream if member.kind == "add" for read in member.inputs]
        # If negative values are clipped anyway, the step after h-swish determines the range.
        if (
            site.activation == "hard_swish"
            and site.stored_before is None
            and (eight or first is None or first.below_zero)
        ):
            tensors.append(site.before)
    return list({id(t): t for t in tensors if t is not model.inputs[0]}.values())


def _settings(site: Site) -> dict[str, Any]:
    """The options of an operation that come from its Keras layer."""
    layer = site.layer
    if site.kind in ("conv_2d", "depthwise_conv_2d"):
        return {"strides": _two(layer, "strides", (1, 1)), "padding": getattr(layer, "padding", "same")}
    if site.kind in ("average_pool_2d", "max_pool_2d"):
        return {"size": tuple(layer.pool_size), "strides": tuple(layer.strides), "padding": layer.padding}
    if site.kind == "pad":
        return {"paddings": tuple(map(tuple, layer.padding))}
    if site.kind == "depth_to_space":
        return {"block_size": layer.block_size}
    return {}


def _two(layer: keras.layers.Layer, name: str, default: tuple[int, int]) -> tuple[int, ...]:
    return tuple(getattr(layer, name, default))


def _tensor(name: str, shape: tuple[int, ...], grid: Grid) -> IntTensor:
    return IntTensor(name, shape, np.array([grid.scale], np.float32), grid.zero_point, bits=grid.bits)


def _largest_sum(x: IntTensor, codes: np.ndarray, axis: int) -> np.ndarray:
    reach = max(127 - x.zero_point, 128 + x.zero_point)
    return np.abs(codes.astype(np.int64)).sum(axis=tuple(i for i in range(codes.ndim) if i != axis)) * reach


def saturated(graph: IntGraph) -> IntGraph:
    """The graph with requantization factors of 256 and more, which kernels refuse, replaced by 255.5.

    A channel that hardly varied in training has a tiny variance, so that one unit of its accumulator may be worth more
    steps than int8 has. Every accumulator but zero then saturates, and it still does at 255.5 steps.
    """
    tensors = dict(graph.tensors)
    for op in graph.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        ratio = ratios(graph, op)
        smaller = np.where(ratio >= RATIOS[1], 255.5 / ratio.astype(np.float64), 1.0)
        for name in op.inputs[1:]:
            scale = (tensors[name].scale * smaller).astype(np.float32)
            tensors[name] = dataclasses.replace(tensors[name], scale=scale)
    return dataclasses.replace(graph, tensors=tensors)


def check(graph: IntGraph) -> None:
    """Raises `ExportError` if a requantization factor is outside the range of kernels, or an output has one value."""
    for op in graph.ops:
        if op.kind in UNSCALED:
            continue
        ratio = ratios(graph, op)
        for worst in (ratio.max(), ratio.min()):
            if not RATIOS[0] < worst < RATIOS[1]:
                raise ExportError(
                    f"layer {op.source}: an accumulator is worth {worst:.3g} steps of its output, expected "
                    f"{RATIOS[0]:.3g} to {RATIOS[1]:g}"
                )
        low, high = limits(graph, op)
        if low >= high:
            raise ExportError(f"layer {op.source}: its output holds no value but {low}")
