"""The call of a layer or operation as its reading function sees it, what it makes of it, and the register of these."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.graph.rebuilding import unsupported
from tfqnas.graph.sites import CONVOLUTIONS, Affine, Site
from tfqnas.quantizers import Quantizer

Function = Callable[["Reader", "Call"], "Site | Sequence[Site]"]
REGISTER: dict[Any, Function] = {}


def reads(*types: Any) -> Callable[[Function], Function]:
    """Registers the function that reads layers of these types; a text is the name of an operation of `keras.ops`."""

    def register(function: Function) -> Function:
        REGISTER.update(dict.fromkeys(types, function))
        return function

    return register


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation.

    Args:
        layer: the layer or operation.
        arguments: its arguments by name, with sites in the place of tensors.
        sites: the sites among the arguments, in their order.
        outputs: the Keras tensors of its results.
    """

    layer: Any
    arguments: dict[str, Any]
    sites: list[Site]
    outputs: list[keras.KerasTensor]

    @property
    def site(self) -> Site:
        """The first site that it reads."""
        return self.sites[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first result, without the batch axis."""
        return tuple(self.outputs[0].shape[1:])

    @property
    def axes(self) -> int:
        """The number of axes of its first input, the batch among them."""
        return len(self.site.shape) + 1

    def axis(self, value: int, axes: int | None = None) -> int:
        """An axis counted from the front, with the batch as 0; raises UnsupportedModelError for the batch."""
        axes = axes or self.axes
        place = value % axes
        if place == 0:
            raise unsupported(self.layer, "it works along the axis of the batch")
        return place

    def refuse(self, why: str) -> Exception:
        """The error that says why the call has no integer form."""
        return unsupported(self.layer, why)


class Reader:
    """Makes the sites of a model; the functions of `kinds` use it."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)  # of layers; the first site of a layer has its name
        self.used: set[str] = set()
        self.sites: list[Site] = []
        self.branched: set[int] = set()  # ids of sites whose tensor, or one on the way to it, is read several times

    def new(
        self,
        call: Call,
        kind: str,
        inputs: Sequence[Site] | None = None,
        shape: Sequence[int] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> Site:
        """A new site, of the call's sites and shape if nothing else is given."""
        name = self._free(name or call.layer.name)
        inputs = list(call.sites if inputs is None else inputs)
        shape = tuple(call.shape if shape is None else shape)
        site = Site(call.layer, name, kind, inputs, shape, options=options)
        self.sites.append(site)
        return site

    def _free(self, name: str) -> str:
        """The name, with a number behind it if another site or layer has it."""
        free, count = name, 0
        while free in self.used or (count and free in self.names):
            count += 1
            free = f"{name}_{count}"
        self.used.add(free)
        return free

    def constant(self, call: Call, values: Any) -> Site:
        """A constant of float values; a leading axis of size 1 stands for the batch."""
        site = self.new(call, "constant", [], name=f"{call.layer.name}/constant")
        site.constant = np.asarray(values, np.float32)
        site.shape = site.constant.shape
        return site

    def quantized(self, call: Call, site: Site, quantizer: Quantizer) -> Site:
        """The site's values on the grid of a quantizer."""
        result = self.new(call, "requantize", [site], site.shape, name=f"{call.layer.name}/input")
        result.quantizer = quantizer
        return result

    def reshaped(self, call: Call, site: Site, shape: Sequence[int]) -> Site:
        """The site with another shape; only the last of several reshapes in a row is an operation."""
        if any(size is None for size in shape) and tuple(shape) != site.shape:
            raise call.refuse(f"its output is {tuple(shape)}, expected known sizes")
        while site.kind == "reshape":
            site = site.inputs[0]
        return site if tuple(shape) == site.shape else self.new(call, "reshape", [site], shape)

    def absorber(self, site: Site, kinds: Sequence[str] = CONVOLUTIONS, axis: bool = True) -> Site | None:
        """The site that can absorb a computation behind `site`, or None.

        It is `site` itself or what `site` reshapes. With `axis` the last axis must be the same.
        """
        channels = site.shape[-1:]
        while site.kind == "reshape" and id(site) not in self.branched:
            site = site.inputs[0]
        free = site.activation == "none" and site.fixed is None and not site.clips and site.quantizer is None
        free = free and id(site) not in self.branched
        return site if free and site.kind in kinds and (not axis or site.shape[-1:] == channels) else None

    def affine(self, call: Call, site: Site, affine: Affine) -> Site:
        """`site` with a factor and an offset for each channel behind it, absorbed or as a unit of its own."""
        if (absorber := self.absorber(site)) is not None:
            absorber.affines.append(affine)
            return site
        if affine.layer is None and np.ndim(affine.factor) == np.ndim(affine.offset) == 0:
            if site.kind == "rescale" and id(site) not in self.branched:
                site.affines.append(affine)
                return site
            if site.kind in ("input", "rescale"):
                scaled = self.new(call, "rescale", [site])
                scaled.affines = [affine]
                return scaled
            if affine.factor == -1.0:
                return self.new(call, "sub", [self.constant(call, affine.offset), site], site.shape)
            for kind, value, other in (("mul", affine.factor, affine.offset), ("add", affine.offset, affine.factor)):
                if other == (0.0 if kind == "mul" else 1.0):
                    return self.new(call, kind, [site, self.constant(call, value)], site.shape)
        return self.unit(call, site, affine)

    def unit(self, call: Call, site: Site, affine: Affine) -> Site:
        """A depthwise convolution with a 1 x 1 kernel of ones and this factor and offset."""
        shape = site.shape
        if len(shape) != 3:
            if None in shape:
                raise call.refuse(f"its input is {shape}, expected known sizes")
            site = self.reshaped(call, site, (1, math.prod(shape[:-1]), shape[-1]))
        unit = self.new(call, "depthwise_conv_2d", [site], site.shape, strides=(1, 1), padding="same")
        unit.affines = [affine]
        return self.reshaped(call, unit, shape)
