"""Bit widths as choices of a space: its quantized convolutions, and the convolutions that share a bit width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tfqnas.arch import BIT_WIDTHS, FLOAT_BITS, Arch
from tfqnas.spaces.blocks import Stage
from tfqnas.spaces.fields import SpaceFields
from tfqnas.spaces.messages import where_in

# The unit for which a bit width is chosen, from the finest to the coarsest: weights and inputs of a convolution
# separately, a convolution, a block, a stage. Head and feature layer are in no block and choose separately.
TENSOR, LAYER, BLOCK, STAGE = TIES = ("tensor", "layer", "block", "stage")
EXPAND, DEPTHWISE, PROJECT, HEAD, FEATURE = "expand", "depthwise", "project", "head", "feature"


class Convolution(NamedTuple):
    """A quantized convolution, or several that share a bit width, with None for the fields in which they differ.

    `layer` is "expand", "depthwise" or "project" of a block, "head" or "feature". `stage` and `block` count from 0 and
    are None for head and feature layer.
    """

    stage: int | None
    block: int | None
    layer: str | None


def convolutions_of_block(stage: Stage) -> tuple[str, ...]:
    """Names of the quantized convolutions of a block of `stage`, in the order of computation."""
    return (DEPTHWISE, PROJECT) if stage.expands == (1,) else (EXPAND, DEPTHWISE, PROJECT)


def convolutions(space: SpaceFields) -> tuple[Convolution, ...]:
    """The quantized convolutions of the largest architecture of `space`, in the order of computation."""
    blocks = (
        Convolution(s, b, layer)
        for s, stage in enumerate(space.stages)
        for b in range(stage.depths[-1])
        for layer in convolutions_of_block(stage)
    )
    ends = (HEAD, FEATURE) if space.feature_channels else (HEAD,)
    return (*blocks, *(Convolution(None, None, layer) for layer in ends))


def sharers(convolution: Convolution, bits_by: str) -> Convolution:
    """All convolutions that share their bit widths with this one, as a `Convolution` with None where they differ."""
    if convolution.stage is None or bits_by in (TENSOR, LAYER):
        return convolution
    return convolution._replace(layer=None, block=convolution.block if bits_by == BLOCK else None)


def kinds(bits_by: str) -> tuple[str, str]:
    """Kinds of the genes of a convolution's weight and input bit widths, which may be the same gene."""
    return ("weight_bits", "input_bits") if bits_by == TENSOR else ("bits", "bits")


def choices_of_stage(stage: Stage, bits_by: str, choices: int) -> tuple[int, int]:
    """`(per block, per stage)`: the numbers of ways to choose bit widths in each block, and for the stage as a whole.

    Args:
        stage: `Stage`.
        bits_by: one of `TIES`.
        choices: the number of ways to choose weight and input bit widths once.
    """
    if bits_by == STAGE:
        return 1, choices
    return choices if bits_by == BLOCK else choices ** len(convolutions_of_block(stage)), 1


def validate(space: SpaceFields, arch: Arch, found: Sequence[Convolution]) -> None:
    """Raises a ValueError that names the convolution unless the bit widths of `arch` are choices of `space`.

    Args:
        space: the space.
        arch: the architecture.
        found: the members of `convolutions(space)` that the architecture has.
    """
    if not space.mixed:
        if arch.bits is not None:
            raise ValueError(f"{space.name}: bits: expected None, the space has no bit widths, received {arch.bits}")
        return
    if len(arch.bits or ()) != len(found):
        raise ValueError(
            f"{space.name}: bits: expected {len(found)} pairs (weights, inputs), one for each quantized convolution, "
            f"received {arch.bits and len(arch.bits)}"
        )
    fixed = space.fixed_bits and [[(width,) for width in pair] for pair in space.fixed_bits]
    firsts: dict[Convolution, tuple[Convolution, int]] = {}
    for i, (convolution, pair) in enumerate(zip(found, arch.bits or (), strict=True)):
        choices = fixed[i] if fixed else (space.weight_bits, space.input_bits)
        for what, width, known in zip(("weight", "input"), pair, choices, strict=True):
            if width not in known:
                where = where_in(*convolution)
                raise ValueError(f"{space.name}: {where}{what} bits {width} is not one of {known}")
        if space.bits_by == TENSOR:
            continue
        first, width = firsts.setdefault(sharers(convolution, space.bits_by), (convolution, pair[0]))
        if pair != (width, width):
            raise ValueError(
                f"{space.name}: {where_in(*convolution)}expected bits {(width, width)}, since bits_by is "
                f"{space.bits_by!r} and the weights of {where_in(*first)[:-2]} have {width}, received {pair}"
            )


def check_fields(
    space: SpaceFields,
    check: Callable[[object, str, str, object], None],
    check_choices: Callable[[Any, str, str, Callable[[Any], bool]], None],
) -> None:
    """Checks the fields of bit widths of a space whose stages have been checked.

    Args:
        space: the space.
        check: `check(ok, field, expected, received)` raises ValueError unless `ok`.
        check_choices: `check_choices(values, field, expected, allowed)` raises ValueError unless the values are
            ascending and allowed.
    """
    expected = f"bit widths from 2 to 8 or {FLOAT_BITS}"
    for field in ("weight_bits", "input_bits"):
        values = getattr(space, field)
        if values != ():
            check_choices(values, field, expected, _is_width)
    weights, inputs = space.weight_bits, space.input_bits
    check(bool(weights) == bool(inputs), "input_bits", f"choices as there are weight_bits {weights}", inputs)
    check(space.bits_by in TIES, "bits_by", f"one of {TIES}", space.bits_by)
    equal = space.bits_by == TENSOR or weights == inputs
    check(equal, "input_bits", f"weight_bits {weights}, since bits_by is {space.bits_by!r}", inputs)
    if space.fixed_bits is not None:
        free = weights or any(len(stage.depths) > 1 for stage in space.stages)
        check(not free, "fixed_bits", "None where depths or bit widths are to be chosen", space.fixed_bits)
        number, pairs = len(convolutions(space)), space.fixed_bits
        ok = isinstance(pairs, tuple) and len(pairs) == number and all(map(_is_pair, pairs))
        check(ok, "fixed_bits", f"{number} pairs of {expected}", pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_width, value))


def _is_width(value: Any) -> bool:
    return type(value) is int and value in BIT_WIDTHS
