"""Checks the fields of a search space. The error names the first wrong field, and what was expected and received."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tfqnas.arch import NAME
from tfqnas.spaces import bits as bit_choices
from tfqnas.spaces.blocks import Stage
from tfqnas.spaces.fields import SpaceFields

# Far beyond any network of this kind, so that nothing too large for a machine is allocated.
_CHANNELS, _PIXELS, _KERNEL, _EXPAND, _DEPTH, _STAGES, _WEIGHTS = 2**16, 2**13, 255, 100, 1000, 1000, 10**10
ACTIVATIONS = ("relu", "relu6", "hswish")


def check_space(space: SpaceFields) -> None:
    """Raises a ValueError for the first wrong field of `space`."""
    if not isinstance(space.name, str) or not NAME.fullmatch(space.name):
        raise ValueError(f"name: expected letters, digits, '_', '.' and '-', received {space.name!r}")

    def check(ok: object, where: str, expected: str, received: object) -> None:
        if not ok:
            raise ValueError(f"{space.name}: {where}: expected {expected}, received {received!r}")

    def check_choices(values: Any, where: str, expected: str, allowed: Callable[[Any], bool]) -> None:
        ok = isinstance(values, tuple) and len(values) > 0 and all(allowed(v) for v in values)
        check(ok, where, f"a list of {expected}", values)
        ok = all(a < b for a, b in itertools.pairwise(values))
        check(ok, where, "ascending, different choices", values)

    check_choices(space.resolutions, "resolutions", f"positive integers up to {_PIXELS}", _is_resolution)
    for field in ("stem_channels", "head_channels", "feature_channels"):
        value = getattr(space, field)
        ok = _is_size(value, _CHANNELS) or (field == "feature_channels" and value is None)
        check(ok, field, f"a positive integer up to {_CHANNELS}", value)
    check(_is_kernel(space.stem_kernel), "stem_kernel", "an odd number", space.stem_kernel)
    check(space.stem_stride in (1, 2), "stem_stride", "1 or 2", space.stem_stride)
    for field in ("stem_activation", "head_activation"):
        value = getattr(space, field)
        check(value in ACTIVATIONS, field, f"one of {ACTIVATIONS}", value)
    ok = isinstance(space.stages, tuple) and bool(space.stages) and all(isinstance(s, Stage) for s in space.stages)
    check(ok, "stages", "at least one Stage", space.stages)
    for i, stage in enumerate(space.stages, 1):
        where = f"stage {i}: "
        ok = _is_size(stage.channels, _CHANNELS)
        check(ok, where + "channels", f"a positive integer up to {_CHANNELS}", stage.channels)
        check(stage.stride in (1, 2), where + "stride", "1 or 2", stage.stride)
        check_choices(stage.depths, where + "depths", f"positive integers up to {_DEPTH}", _is_depth)
        check_choices(stage.kernels, where + "kernels", "odd numbers", _is_kernel)
        check_choices(stage.expands, where + "expands", "numbers from 1 on", _is_expand)
        # A block without an expansion has other layers; it is not a narrower choice of the same block.
        ok = stage.expands == (1,) or 1 not in stage.expands
        check(ok, where + "expands", "(1,) alone or numbers above 1", stage.expands)
        ok = stage.activation in ACTIVATIONS
        check(ok, where + "activation", f"one of {ACTIVATIONS}", stage.activation)
        check(isinstance(stage.se, bool), where + "se", "True or False", stage.se)
    check(len(space.stages) <= _STAGES, "stages", f"at most {_STAGES}", len(space.stages))
    weights = _weights(space)
    check(weights <= _WEIGHTS, "stages", f"a largest network of at most {_WEIGHTS:,} weights", weights)
    bit_choices.check_fields(space, check, check_choices)


def _weights(space: SpaceFields) -> int:
    """About the number of weights of the largest network."""
    total, before = 0.0, space.stem_channels
    for stage in space.stages:
        for _ in range(stage.depths[-1]):
            hidden = before * stage.expands[-1]
            total += hidden * (before + stage.kernels[-1] ** 2 + stage.channels)
            before = stage.channels
    return round(total + space.head_channels * (before + (space.feature_channels or 0)))


def _is_size(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= largest


def _is_resolution(value: Any) -> bool:
    return _is_size(value, _PIXELS)


def _is_depth(value: Any) -> bool:
    return _is_size(value, _DEPTH)


def _is_kernel(value: Any) -> bool:
    return _is_size(value, _KERNEL) and value % 2 == 1


def _is_expand(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= _EXPAND
