"""Which tensors of a model share a grid, and where a tensor has to go from one grid to another.

A quantizer is at first a site of its own. `arranged` makes it the quantizer of the site before wherever nothing else
reads that site, so that the integer operation writes on its grid. What then has no quantizer and no known range gets an
8-bit grid from images.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import keras

from tfqnas.graph.sites import MOVES, ONE_SCALE, Site
from tfqnas.quantizers import Calibrated, Quantizer

# Their inputs need one grid, since their kernels take the integers as they are.
_JOINING = ("concatenation", "maximum", "minimum")


@dataclasses.dataclass(eq=False)
class Group:
    """Sites whose tensors have one grid.

    Args:
        members: the sites.
        quantizer: the quantizer of the grid, or None.
        given: the member whose grid is given (`has_fixed_grid`), or clips its values, or that is a constant; or None.
    """

    members: list[Site]
    quantizer: Quantizer | None = None
    given: Site | None = None

    @property
    def is_free(self) -> bool:
        """Whether the grid may be that of other tensors too."""
        return self.quantizer is None and self.given is None

    @property
    def is_calibrated(self) -> bool:
        """Whether the grid has to be found from images."""
        return self.quantizer is None and (self.given is None or (self.given.clips and self.given.fixed is None))

    @property
    def tensors(self) -> list[keras.KerasTensor]:
        """The Keras tensors whose values the grid holds."""
        return [site.tensor for site in self.members if site.tensor is not None]


def arranged(sites: list[Site]) -> tuple[list[Site], dict[int, Group]]:
    """The sites with quantizers in their place, and `{id(site): Group}`.

    A quantizer moves before operations that only move values, and into the site that computes them. A site of kind
    "requantize" is left where a tensor is read on another grid than its own. Sites change; call it once.
    """
    _merge(sites)
    for site in [site for site in sites if _is_quantizer(site)]:
        _hoist(sites, site)
    for site in [site for site in sites if _is_quantizer(site)]:
        _fuse(sites, site)
    for site in list(sites):
        _flatten_nothing(sites, site)
    groups = _Groups(sites)
    ordered = _ordered(sites)
    for site in ordered:
        groups.join(site)
    return _ordered(sites), {id(site): groups.of(site) for site in sites}


def before_hard_swish(site: Site) -> Site | None:
    """The h-swish that alone reads a site, and so bounds its range; or None."""
    alone = site.is_alone and site.readers[0].kind == "hard_swish"
    return site.readers[0] if alone and not site.has_fixed_grid and site.kind not in (*MOVES, *ONE_SCALE) else None


def _is_quantizer(site: Site) -> bool:
    return site.kind == "requantize" and site.quantizer is not None


def _merge(sites: list[Site]) -> None:
    """Makes one site of all that put the same tensor through the same quantizer."""
    met: dict[tuple[int, int], Site] = {}
    for site in list(sites):
        if _is_quantizer(site) and not site.is_output:
            first = met.setdefault((id(site.inputs[0]), id(site.quantizer)), site)
            if first is not site:
                _replace(sites, site, first)


def _replace(sites: list[Site], site: Site, other: Site) -> None:
    """Takes a site out; its readers read another one."""
    for reader in list(dict.fromkeys(site.readers)):
        reader.replace_input(site, other)
    for read in site.inputs:
        read.readers = [reader for reader in read.readers if reader is not site]
    other.places += site.places
    sites.remove(site)


def _hoist(sites: list[Site], site: Site) -> None:
    """Moves a quantizer before the operations that only move values for it."""
    move = site.inputs[0]
    if not (move.moves and move.is_alone):
        return
    quantizer = site.quantizer
    assert quantizer is not None
    _replace(sites, site, move)
    for read in dict.fromkeys(move.inputs):
        if read.quantizer is quantizer:
            continue
        moved = Site(site.layer, _free(sites, f"{read.name}/{quantizer.bits}_bits"), "requantize", [read], read.shape)
        moved.quantizer = quantizer
        move.replace_input(read, moved)
        read.readers.append(moved)
        sites.append(moved)
        _hoist(sites, moved)


def _free(sites: list[Site], name: str) -> str:
    """The name, with a number behind it if a site has it."""
    taken = {site.name for site in sites}
    return next(free for free in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if free not in taken)


def _fuse(sites: list[Site], site: Site) -> None:
    """Lets the site before a quantizer write on its grid, if nothing else reads it."""
    before, quantizer = site.inputs[0], site.quantizer
    computes = before.kind not in ("input", "constant", *MOVES, *ONE_SCALE) and before.quantizer is None
    if not (computes and before.is_alone) or (before.clips and not isinstance(quantizer, Calibrated)):
        return
    if before.fixed is not None:
        if getattr(quantizer, "fixed", None) is not None:  # the quantizer of the range that the site has anyway
            _replace(sites, site, before)
        return
    _replace(sites, site, before)
    before.quantizer = quantizer


def _flatten_nothing(sites: list[Site], site: Site) -> None:
    """Lets a dense layer read a single pixel as it is, without a reshape to channels."""
    if site.kind != "fully_connected" or site.options:
        return
    reshape = site.inputs[0]
    while reshape.kind == "reshape" and reshape.is_alone and math.prod(reshape.inputs[0].shape[:-1]) == 1:
        _replace(sites, reshape, reshape.inputs[0])
        reshape = site.inputs[0]


class _Groups:
    def __init__(self, sites: list[Site]) -> None:
        self.sites = sites
        self.groups = {id(site): self._own(site) for site in sites}

    def of(self, site: Site) -> Group:
        return self.groups.get(id(site)) or self.groups.setdefault(id(site), self._own(site))

    def _own(self, site: Site) -> Group:
        return Group(
            [site], site.quantizer, site if site.has_fixed_grid or site.clips or site.kind == "constant" else None
        )

    def join(self, site: Site) -> None:
        """Puts the inputs of a site into its group if its kernel needs them there, or requantizes them to it."""
        if site.kind not in (*MOVES, *ONE_SCALE):
            return
        reads = list(dict.fromkeys(site.inputs))
        reads.sort(key=lambda read: not self._fits(site, read))  # what can join comes first
        alike = len({id(self.of(read)) for read in reads}) == 1
        for read in reads:
            if (alike and site.kind not in ONE_SCALE) or self._fits(site, read):
                self._unite(site, read)
            else:
                name = _free(self.sites, f"{read.name}/{site.name}")
                between = Site(site.layer, name, "requantize", [read], read.shape)
                site.replace_input(read, between)
                read.readers.append(between)
                self.sites.append(between)
                self._unite(site, between)

    def _fits(self, site: Site, read: Site) -> bool:
        """Whether a site's input can be on the site's grid."""
        own, other = self.of(site), self.of(read)
        if own is other:
            return True
        if site.kind in ONE_SCALE:
            return other.quantizer is None or other.quantizer.bits == 8
        if site.kind not in _JOINING:
            return True
        if not other.is_free:
            return _key(other) is not None and all(_key(self.of(each)) == _key(other) for each in site.inputs)
        # What others read as well keeps a grid of its own. A chain of concatenations has one, since each change of
        # grid would round all that is in it once more.
        if site.kind != "concatenation":
            return own.given is None
        return own.given is None and (_is_read_within(other, site) or any(m.kind in _JOINING for m in other.members))

    def _unite(self, one: Site, other: Site) -> None:
        first, second = self.of(one), self.of(other)
        if first is second:
            return
        first.members.extend(second.members)
        first.quantizer = first.quantizer or second.quantizer
        first.given = first.given or second.given
        self.groups.update((id(member), first) for member in second.members)


def _key(group: Group) -> object:
    """What is equal for groups with the same given grid; None for a grid that is known to no other group."""
    if group.quantizer is not None:
        return id(group.quantizer)
    return group.given.fixed if group.given is not None else None


def _is_read_within(group: Group, site: Site) -> bool:
    inside = {id(member) for member in group.members} | {id(site)}
    return not any(m.is_output or any(id(reader) not in inside for reader in m.readers) for m in group.members)


def _ordered(sites: Iterable[Site]) -> list[Site]:
    """The sites in an order in which each comes after what it reads."""
    done: dict[int, Site] = {}
    for start in sites:
        stack = [start]
        while stack:
            site = stack[-1]
            waiting = [read for read in site.inputs if id(read) not in done]
            if waiting and id(site) not in done:
                stack.extend(waiting)
            else:
                done.setdefault(id(stack.pop()), site)
    return list(done.values())
