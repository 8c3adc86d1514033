"""Checks the fields of a search space. The error names the first wrong field, and what was expected and received."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from tfqnas.arch import NAME
from tfqnas.spaces import bits as bit_choices
from tfqnas.spaces.blocks import Stage
from tfqnas.spaces.fields import SpaceFields

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

    check_choices(space.resolutions, "resolutions", "positive integers", _is_size)
    for field in ("stem_channels", "head_channels", "feature_channels"):
        value = getattr(space, field)
        ok = _is_size(value) or (field == "feature_channels" and value is None)
        check(ok, field, "a positive integer", value)
    check(_is_kernel(space.stem_kernel), "stem_kernel", "an odd number", space.stem_kernel)
    check(space.stem_stride in (1, 2), "stem_stride", "1 or 2", space.stem_stride)
    for field in ("stem_activation", "head_activation"):
        value = getattr(space, field)
        check(value in ACTIVATIONS, field, f"one of {ACTIVATIONS}", value)
    ok = isinstance(space.stages, tuple) and bool(space.stages) and all(isinstance(s, Stage) for s in space.stages)
    check(ok, "stages", "at least one Stage", space.stages)
    for i, stage in enumerate(space.stages, 1):
        where = f"stage {i}: "
        check(_is_size(stage.channels), where + "channels", "a positive integer", stage.channels)
        check(stage.stride in (1, 2), where + "stride", "1 or 2", stage.stride)
        check_choices(stage.depths, where + "depths", "positive integers", _is_size)
        check_choices(stage.kernels, where + "kernels", "odd numbers", _is_kernel)
        check_choices(stage.expands, where + "expands", "numbers from 1 on", _is_expand)
        # A block without an expansion has other layers; it is not a narrower choice of the same block.
        ok = stage.expands == (1,) or 1 not in stage.expands
        check(ok, where + "expands", "(1,) alone or numbers above 1", stage.expands)
        ok = stage.activation in ACTIVATIONS
        check(ok, where + "activation", f"one of {ACTIVATIONS}", stage.activation)
        check(isinstance(stage.se, bool), where + "se", "True or False", stage.se)
    bit_choices.check_fields(space, check, check_choices)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_kernel(value: Any) -> bool:
    return _is_size(value) and value % 2 == 1


def _is_expand(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < math.inf
