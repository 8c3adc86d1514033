"""Chooses the grids of all tensors of a model and makes its integer operations.

- A `b`-bit tensor has its highest code at 127, so that int8 saturation clips above; a fused RELU clips below.
- A signed `b`-bit tensor takes two operations. The first writes its lowest code to -128, where int8 saturates; a
  product with one then moves it.
- Sums have a scale and a zero point for each input, so that a small branch keeps its own grid.
- The input of an h-swish ends where the output reaches its highest code. It starts at zero if negative values are
  clipped anyway.
- The hard sigmoid of a gate is its convolution divided by six, in a tensor that saturates at 0 and at 1.
- A rescaling that the model begins with is the scale and zero point of the input.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tflite_export.calibrate import common_range, values_of
from tflite_export.folding import ExportError, Folded, Grid, finer, folded, grid_of, wide_grid
from tflite_export.int_graph import IntGraph, IntOp, IntTensor
from tfqnas.graph.grids import Group, before_hard_swish
from tfqnas.graph.sites import CONVOLUTIONS, MOVES, ONE_SCALE, Site

# The highest relative size of the part of a step that the zero point of the input cannot express.
_EXACT = 1e-6
# A unit of an accumulator that is worth less, in steps of the output, is that of a dead channel.
_TINY = 2.0**-24
# How many steps of the output a unit of an accumulator may be worth, with room below the 256 of the kernels.
_COARSEST = 200.0


class Emitter:
    """Makes an `IntGraph` of sites.

    Args:
        model: the Keras model of the sites.
        sites, groups: the result of `grids.arranged`.
        inputs: the calibration values of each input, by name.
        calibration, storage, fold_input: as in `lower`.
        normalizations: `(mean, divisor)` of each input, or None for a calibrated one, by name.
    """

    def __init__(
        self,
        model: keras.Model,
        sites: list[Site],
        groups: Mapping[int, Group],
        inputs: Mapping[str, np.ndarray],
        calibration: str,
        normalizations: Mapping[str, tuple[float, float] | None],
        storage: str,
        fold_input: bool,
    ) -> None:
        self.sites, self.groups, self.calibration, self.storage = sites, groups, calibration, storage
        self.normalizations, self.fold_input = normalizations, fold_input
        self.values = values_of(model, self._calibrated(), list(inputs.values()))
        self.tensors: dict[str, IntTensor] = {}
        self.ops: list[IntOp] = []
        self.names: dict[int, str] = {}  # site -> name of its tensor
        self.grids: dict[int, Grid] = {}  # group -> its grid
        self.silenced: dict[str, int] = {}  # name of a site -> how many of its channels became zero
        self.offsets: dict[int, float] = {}  # site -> what its zero point leaves out

    def graph(self, metadata: dict[str, Any]) -> IntGraph:
        """The graph of all sites, with these metadata."""
        for site in self.sites:
            self.names[id(site)] = self._emit(site)
        by_name = {site.name: site for site in self.sites if site.kind == "input"}
        inputs = [by_name[name] for name in self.normalizations]  # in the order of the model's
        names = [self.names[id(site)] for site in inputs]
        outputs = [self._output(site, place, names) for place, site in self._outputs()]
        known = [self.normalizations[site.name] for site in inputs]
        return IntGraph(self.tensors, tuple(self.ops), tuple(names), tuple(outputs), tuple(known), metadata)

    def _outputs(self) -> list[tuple[int, Site]]:
        return sorted((place, site) for site in self.sites for place in site.places)

    def _output(self, site: Site, place: int, inputs: Sequence[str]) -> str:
        """The name of an output's tensor. No tensor is given out twice, and none is also an input."""
        if (grid := self._grid(site)).bits != 8:
            raise ExportError(f"{site.name}: expected an 8-bit output, its quantizer has {grid.bits} bits")
        name = self.names[id(site)]
        if name not in inputs and place == min(site.places) and not self._offset(site):
            return name
        return self._times_one(site, name, grid, f"{site.name}/output_{place}")

    # Choosing the grids

    def _calibrated(self) -> list[keras.KerasTensor]:
        """The Keras tensors whose ranges are found from images."""
        found: dict[int, keras.KerasTensor] = {}
        for site in self.sites:
            group = self.groups[id(site)]
            given = group.given
            unknown = given is not None and given.kind == "input" and self.normalizations[given.name] is None
            if group.is_calibrated or unknown:
                found.update((id(t), t) for t in group.tensors)
        return list(found.values())

    def _grid(self, site: Site) -> Grid:
        group = self.groups[id(site)]
        if id(group) not in self.grids:
            self.grids[id(group)] = self._chosen(site, group)
        return self.grids[id(group)]

    def _chosen(self, site: Site, group: Group) -> Grid:
        """The grid of a group: that of its quantizer, a given one, or one from images."""
        if group.quantizer is not None:
            return grid_of(site, group.quantizer)
        given = group.given
        if given is not None and given.fixed is not None:
            return wide_grid(*given.fixed, given.name)
        if given is not None and given.kind == "input" and (known := self.normalizations[given.name]) is not None:
            mean, divisor = known
            return Grid(np.float32(1 / divisor), int(mean) - 128)
        low, high = common_range([self.values[id(t)] for t in group.tensors], self.calibration)
        swish = before_hard_swish(site)
        if swish is None:
            grid = wide_grid(low, high, group.members[0].name)
            finest = max(map(self._finest, group.members))
            return grid if grid.scale >= finest else wide_grid(low - 128 * finest, high + 128 * finest, site.name)
        after = self._grid(swish)
        if after.signed:
            return wide_grid(max(low, -3.0), max(high, 1e-3), site.name)
        top = (2**after.bits - 1 + 0.49) * float(after.scale)
        return wide_grid(0.0, top if top >= 3 else (-3 + (9 + 24 * top) ** 0.5) / 2, site.name)

    def _finest(self, site: Site) -> float:
        """The finest step that a kernel takes for the output of a site, where its values are all but equal."""
        if site.kind not in ("add", "sub", "mul", "batch_matmul", "mean", "sum", "requantize"):
            return 0.0
        # Two groups may each have a member that reads one of the other, so only grids that are known count.
        names = [self.names.get(id(read)) for read in site.inputs]
        if None in names:
            return 0.0
        scales = [float(self.tensors[name].scale[0]) for name in names if name is not None]
        unit = math.prod(scales) if site.kind in ("mul", "batch_matmul") else max(scales)
        if site.kind == "mean":
            unit *= math.prod(site.shape) / math.prod(site.inputs[0].shape)
        return unit / _COARSEST

    # The operations

    def _emit(self, site: Site) -> str:
        """Makes the operations of a site; returns the name of its tensor."""
        if site.kind == "constant":
            return self._constant(site)
        grid = self._grid(site)
        if site.kind == "input":
            return self._input(site, grid)
        if site.kind == "rescale":
            return self._rescaled(site, grid)
        reads = tuple(self.names[id(read)] for read in site.inputs)
        if site.kind == "requantize":
            return self._requantized(site, reads[0], grid)
        if site.kind in (*MOVES, *ONE_SCALE):
            return self._op(site.kind, reads, site, _tensor(site.name, site.shape, grid), dict(site.options))
        if site.kind in ("add", "sub") and (kept := self._all_but_nothing(site, reads, grid)) is not None:
            return self._requantized(dataclasses.replace(site, inputs=[kept]), self.names[id(kept)], grid)
        if site.kind in CONVOLUTIONS:
            reads += tuple(self._weights(site, reads[0], float(grid.scale)))
        options = dict(site.options)
        clips = site.kind in (*CONVOLUTIONS, "add", "sub", "mul")
        if clips:
            options["activation"] = site.activation if site.activation in ("relu", "relu6") else "none"
            if not grid.signed and options["activation"] == "none":
                options["activation"] = "relu"
        elif site.kind == "hard_swish":
            clips = not self._grid(site.inputs[0]).signed
        return self._finish(site.kind, reads, site, grid, options, clips=clips)

    def _input(self, site: Site, grid: Grid) -> str:
        """The tensor of an input. A rescaling that alone reads it becomes its scale and zero point."""
        reader = site.readers[0] if site.is_alone else None
        if reader is not None and reader.kind == "rescale" and (folded := self._folded_rescaling(reader, grid)):
            grid, self.offsets[id(reader)] = folded
            self.grids[id(self.groups[id(reader)])] = grid
        return self._add(_tensor(site.name, site.shape, grid))

    def _folded_rescaling(self, site: Site, grid: Grid) -> tuple[Grid, float] | None:
        """The grid of a rescaled input whose integers are the input's own, and what its zero point leaves out.

        Convolutions take this part of a step into their bias, and no other operation can.
        """
        group, factor, offset = self.groups[id(site)], 1.0, 0.0
        for affine in site.affines:
            by, plus = map(float, affine.values())
            factor, offset = factor * by, offset * by + plus
        if not self.fold_input or factor <= 0 or self.normalizations[site.inputs[0].name] is None:
            return None
        scale = np.float32(float(grid.scale) * factor)
        exact = grid.zero_point - float(offset) / float(scale)
        zero = int(np.clip(np.rint(exact), -128, 127))
        left = (zero - exact) * float(scale)
        behind = [reader for member in group.members for reader in member.readers if reader not in group.members]
        compensated = all(reader.kind in CONVOLUTIONS for reader in behind) and not any(
            m.is_output for m in group.members
        )
        if abs(zero - exact) > 0.5 or (abs(zero - exact) > _EXACT and not compensated):
            return None
        return Grid(scale, zero), left if abs(zero - exact) > _EXACT else 0.0

    def _rescaled(self, site: Site, grid: Grid) -> str:
        if id(site) in self.offsets:
            return self.names[id(site.inputs[0])]
        source, shape = self.names[id(site.inputs[0])], site.shape
        flat = shape if len(shape) == 3 else (1, math.prod(shape[:-1]), shape[-1])
        unit = dataclasses.replace(
            site, kind="depthwise_conv_2d", shape=flat, options={"strides": (1, 1), "padding": "same"}
        )
        if flat != shape:
            tensor = dataclasses.replace(self.tensors[source], name=f"{site.name}/flat", shape=flat)
            source = self._op("reshape", (source,), site, tensor, {})
        reads = (source, *self._weights(unit, source, float(grid.scale)))
        name = site.name if flat == shape else f"{site.name}/rescaled"
        result = self._finish(unit.kind, reads, unit, grid, dict(unit.options), name)
        return result if flat == shape else self._op("reshape", (result,), site, _tensor(site.name, shape, grid), {})

    def _offset(self, site: Site) -> float:
        """What the zero point of a site's tensor leaves out of its values; means of values have it as they have it."""
        while site.kind in (*MOVES, *ONE_SCALE):
            site = site.inputs[0]
        return self.offsets.get(id(site), 0.0)

    def _constant(self, site: Site) -> str:
        values = site.constant
        assert values is not None
        largest = float(np.abs(values).max()) or 1.0
        scale = np.float32(largest / 127)
        data = np.rint(values / scale).astype(np.int8).reshape(values.shape or (1,))
        return self._add(IntTensor(site.name, data.shape, np.array([scale], np.float32), 0, data=data))

    def _requantized(self, site: Site, source: str, grid: Grid) -> str:
        own = self._grid(site.inputs[0])
        same = (own.scale, own.zero_point, own.bits) == (grid.scale, grid.zero_point, grid.bits)
        if site.activation == "none":
            return source if same else self._clipped(site, source, grid, site.name)
        return self._finish(
            "mul", (source, self._one(site.name)), site, grid, {"activation": site.activation}, clips=True
        )

    def _all_but_nothing(self, site: Site, reads: Sequence[str], grid: Grid) -> Site | None:
        """The input of a sum whose other input is nowhere a quarter of a step, or None."""
        nothing = []
        for name in reads:
            tensor = self.tensors[name]
            reach = max(127 - tensor.zero_point, 128 + tensor.zero_point) * float(tensor.scale[0])
            nothing.append(reach < float(grid.scale) / 4)
        if nothing[1] and site.inputs[0].kind != "constant":
            return site.inputs[0]
        return site.inputs[1] if nothing[0] and site.kind == "add" and site.inputs[1].kind != "constant" else None

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
        tensor = _tensor(name, self.tensors[source].shape, grid)
        return self._op(
            "mul", (source, self._one(name)), site, tensor, {"activation": "none" if grid.signed else "relu"}
        )

    def _one(self, name: str) -> str:
        return self._add(IntTensor(f"{name}/one", (1,), np.array([1], np.float32), 0, data=np.ones(1, np.int8)))

    def _op(self, kind: str, inputs: tuple[str, ...], site: Site, tensor: IntTensor, options: dict[str, Any]) -> str:
        self._add(tensor)
        self.ops.append(IntOp(kind, inputs, (tensor.name,), options, _source(site)))
        return tensor.name

    def _add(self, tensor: IntTensor) -> str:
        assert tensor.name not in self.tensors, tensor.name
        self.tensors[tensor.name] = tensor
        return tensor.name

    def _without_dead(self, site: Site, x: IntTensor, weights: Folded, step: float, axis: int) -> Folded:
        """Zeros instead of weights that are too small for kernels, and together never make a sixteenth of a step."""
        dead = _largest_part(x, weights, axis) < step / 16
        dead &= weights.scale.astype(np.float64) * float(x.scale[0]) < step * _TINY
        if not dead.any():
            return weights
        shape = [-1 if place == axis else 1 for place in range(weights.codes.ndim)]
        self.silenced[site.name] = int(dead.sum())
        codes = np.where(dead.reshape(shape), 0, weights.codes).astype(weights.codes.dtype)
        # The scale of a channel without weights is that of its bias: the one of the others, or a step of the output.
        scale = weights.scale[~dead].max() if not dead.all() else np.float32(step / float(x.scale[0]) / 8)
        return dataclasses.replace(weights, codes=codes, scale=np.where(dead, scale, weights.scale))

    def _weights(self, site: Site, source: str, step: float) -> list[str]:
        """Weights and bias of a site whose output has this step."""
        x = self.tensors[source]
        axis = 3 if site.kind == "depthwise_conv_2d" else 0
        weights = finer(folded(site, self.storage), x.scale, step, axis)
        weights = self._without_dead(site, x, weights, step, axis)
        if offset := self._offset(site.inputs[0]):
            sums = weights.codes.astype(np.float64).sum(axis=tuple(i for i in range(weights.codes.ndim) if i != axis))
            weights = dataclasses.replace(weights, bias=weights.bias + offset * sums * weights.scale)
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


def _largest_part(x: IntTensor, weights: Folded, axis: int) -> np.ndarray:
    """float64 (channels,): what the weights of a channel add to its bias at most, in real units."""
    return _largest_sum(x, weights.codes, axis) * weights.scale.astype(np.float64) * float(x.scale[0])


def _source(site: Site) -> str:
    """The layer that a site's operations belong to: for another grid, or an activation alone, the one before."""
    while site.activation == "none" and site.inputs:
        before = site.inputs[0]
        absorbed = site.kind == "hard_swish" and before.is_alone and before.kind in CONVOLUTIONS
        if site.kind != "requantize" and not absorbed:
            break
        site = before
    return site.layer.name


def _tensor(name: str, shape: tuple[int, ...], grid: Grid) -> IntTensor:
    return IntTensor(name, shape, np.array([grid.scale], np.float32), grid.zero_point, bits=grid.bits)


def _largest_sum(x: IntTensor, codes: np.ndarray, axis: int) -> np.ndarray:
    reach = max(127 - x.zero_point, 128 + x.zero_point)
    return np.abs(codes.astype(np.int64)).sum(axis=tuple(i for i in range(codes.ndim) if i != axis)) * reach
