"""The parts of a search space: stages, the blocks of an architecture, and the genes of a code."""

import dataclasses
from typing import Any, NamedTuple


def make_divisible(value: int, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to int `value` that is not below 90% of it (MobileNetV2's rule)."""
    rounded = max(divisor, (value + divisor // 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


@dataclasses.dataclass(frozen=True)
class Stage:
    """Inverted residual blocks with the same output channels, of which the first has the stride.

    A stage with a single choice everywhere is fixed. It is built, but does not appear in `Arch` and codes.

    Args:
        channels: output channels.
        stride: stride of the first block, 1 or 2.
        depths: choices of the number of blocks, ascending.
        kernels: choices of the kernel size of each block's depthwise convolution, ascending.
        expands: choices of the expand ratio of each block, ascending; (1,) for blocks without an expansion.
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
        """Whether the stage has no choice."""
        return len(self.depths) == len(self.kernels) == len(self.expands) == 1


class Block(NamedTuple):
    """One inverted residual block of an architecture, with all its sizes.

    `stage` is the index in `space.stages` and `index` the index in the stage, both from 0. `size` is the height and
    width of the input. `hidden` is the width of the depthwise convolution, and `se_channels` is 0 without
    squeeze-excite. `bits` holds the pairs (weights, inputs) of the expansion (if the block has one), the depthwise
    convolution and the projection; it is None if the architecture has no bit widths.
    """

    stage: int
    index: int  # type: ignore[assignment]  # hides a method of tuples, which is not used
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
    """One position of a code: the kind of choice, its place in the network, and the choices.

    `kind` is "resolution", "depth", "kernel", "expand", "weight_bits", "input_bits", or "bits" for a bit width of both
    weights and inputs. `stage` and `block` count from 0, and are None where they do not apply. The `layer` of a bit
    width is "expand", "depthwise", "project", "head" or "feature", or None if several convolutions share it.
    """

    kind: str
    stage: int | None
    block: int | None
    choices: tuple[Any, ...]
    layer: str | None = None


def as_tuple(value: Any) -> Any:
    """Converts a list, as JSON has it, to a tuple; returns other values unchanged."""
    return tuple(value) if isinstance(value, (list, tuple)) else value
