"""The fields of a search space, without the properties that are derived from them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfqnas.spaces.blocks import Stage, as_tuple


@dataclasses.dataclass(frozen=True)
class SpaceFields:
    """The fields of a `SearchSpace`, unchecked.

    Args:
        name: letters, digits, "_", "." and "-".
        resolutions: choices of the image's height and width in pixels, ascending.
        stem_channels: output channels of the first convolution.
        stages: `Stage`s.
        head_channels: channels before the average over the image.
        feature_channels: channels before the classifier; None for no feature layer.
        stem_kernel, stem_stride, stem_activation: settings of the first convolution.
        head_activation: activation of the head and of the feature layer.
        weight_bits, input_bits: choices of bit widths for every quantized convolution (all but the first and those of
            squeeze-excite), ascending, from 2 to 8, or 32 for no quantization. If both are empty, architectures have no
            bit widths.
        bits_by: the unit for which a bit width is chosen: "tensor" (weights and inputs of each convolution), "layer"
            (each convolution), "block" or "stage" (also fixed ones). Head and feature layer always choose separately.
            All but "tensor" need equal choices for weights and inputs.
        fixed_bits: pairs (weights, inputs) of all quantized convolutions, as in `Arch.bits`, for a space without a
            choice of depths and bit widths (see `SearchSpace.pruned`); otherwise None.
    """

    name: str
    resolutions: tuple[int, ...]
    stem_channels: int
    stages: tuple[Stage, ...]
    head_channels: int
    feature_channels: int | None = None
    stem_kernel: int = 3
    stem_stride: int = 2
    stem_activation: str = "relu"
    head_activation: str = "relu"
    weight_bits: tuple[int, ...] = ()
    input_bits: tuple[int, ...] = ()
    bits_by: str = "tensor"
    fixed_bits: tuple[tuple[int, int], ...] | None = None

    FORMER_NAMES: ClassVar = {"mix_channels": "feature_channels"}  # in older files

    def __post_init__(self) -> None:
        for field in ("resolutions", "stages", "weight_bits", "input_bits"):
            object.__setattr__(self, field, as_tuple(getattr(self, field)))
        if isinstance(self.fixed_bits, (list, tuple)):
            object.__setattr__(self, "fixed_bits", tuple(map(as_tuple, self.fixed_bits)))

    @property
    def mixed(self) -> bool:
        """Whether architectures have bit widths."""
        return bool(self.weight_bits) or self.fixed_bits is not None
