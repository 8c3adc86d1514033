"""What a search space is made of: stages, the blocks of an architecture, the genes of a code."""

import dataclasses
from typing import Any, NamedTuple


def make_divisible(value: int, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to int `value` that is not below 90% of it (MobileNetV2's rule)."""
    rounded = max(divisor, (value + divisor // 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


@dataclasses.dataclass(frozen=True)
class Stage:
    """Inverted residual blocks with the same output channels; the first one has the stride.

    A stage with one choice of everything is fixed: it is built, but is in no `Arch` and no code.

    Args:
        channels: output channels.
        stride: 1 or 2, of the first block.
        depths, kernels, expands: choices, ascending: number of blocks, and for each block the kernel size of
            its depthwise convolution and its expand ratio. Expand ratios (1,): no expansion convolution.
        activation: "relu", "relu6" or "hswish".
        se: whether the blocks have squeeze-excite, after the depthwise activation.
    """

    channels: int
    stride: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[float, ...]
    activation: str = "relu"
    se: bool = False

    def __post_init__(self) -> None:
        for field in ("depths", "kernels", "expands"):
            object.__setattr__(self, field, as_tuple(getattr(self, field)))

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.depths) == len(self.kernels) == len(self.expands) == 1


class Block(NamedTuple):
    """One inverted residual block of an architecture, with all its sizes.

    `stage` and `index` count from 0: in `space.stages` and in the stage. `size` is the height and width of
    the input. `hidden` is the width of the depthwise convolution, `se_channels` 0 without squeeze-excite.
    `bits`: pairs (weights, inputs) of the expansion (if the block has one), the depthwise convolution and the
    projection; None where the architecture has no bit widths of its own.
    """

    stage: int
    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody calls
    size: int
    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    has_expansion: bool
    se_channels: int
    activation: str
    residual: bool
    bits: tuple[tuple[int, int], ...] | None = None


class Gene(NamedTuple):
    """One position of a code: what kind of choice it is, where, and the choices.

    kind: "resolution", "depth", "kernel", "expand"; "weight_bits" and "input_bits", or "bits" where one bit width is
        for both.
    `stage` and `block` count from 0, as in `Block`; None where they do not apply. `layer`, of bit widths: "expand",
    "depthwise", "project", "head" or "feature"; None where several convolutions share one.
    """

    kind: str
    stage: int | None
    block: int | None
    choices: tuple[Any, ...]
    layer: str | None = None


def as_tuple(value: Any) -> Any:
    """A list as a tuple, whatever else as it is: JSON has no tuples."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
