"""The MobileNetV3 space of OQA (appendix A.4) and OFA, a variant with only ReLU, and the wider space of QFA."""

import dataclasses
from typing import Any

from tfqnas.spaces.base import SearchSpace
from tfqnas.spaces.blocks import Stage, make_divisible

_ELASTIC: dict[str, Any] = {"depths": (2, 3, 4), "kernels": (3, 5, 7), "expands": (3, 4, 6)}

# Activations, strides and the 3x3 first convolution, which the appendix does not give, are as in OFA's release.
MBV3 = SearchSpace(
    name="mbv3",
    resolutions=tuple(range(128, 225, 4)),
    stem_channels=16,
    stem_activation="hswish",
    stages=(
        Stage(16, stride=1, depths=(1,), kernels=(3,), expands=(1,)),
        Stage(24, stride=2, **_ELASTIC),
        Stage(40, stride=2, se=True, **_ELASTIC),
        Stage(80, stride=2, activation="hswish", **_ELASTIC),
        Stage(112, stride=1, activation="hswish", se=True, **_ELASTIC),
        Stage(160, stride=2, activation="hswish", se=True, **_ELASTIC),
    ),
    head_channels=960,
    feature_channels=1280,
    head_activation="hswish",
)

# For integer runtimes in which h-swish is slow. Sizes and costs are the same.
MBV3_RELU = dataclasses.replace(
    MBV3,
    name="mbv3_relu",
    stem_activation="relu",
    stages=tuple(dataclasses.replace(stage, activation="relu") for stage in MBV3.stages),
    head_activation="relu",
)


assert MBV3.feature_channels is not None


def _wider(channels: int) -> int:
    return make_divisible(round(1.2 * channels))


# Quantized-for-all (QFA) is 1.2 times as wide, and chooses bit widths for every quantized convolution.
MBV3_QFA = dataclasses.replace(
    MBV3,
    name="mbv3_qfa",
    stem_channels=_wider(MBV3.stem_channels),
    stages=tuple(dataclasses.replace(stage, channels=_wider(stage.channels)) for stage in MBV3.stages),
    head_channels=_wider(MBV3.head_channels),
    feature_channels=_wider(MBV3.feature_channels),
    weight_bits=(2, 3, 4),
    input_bits=(2, 3, 4),
)
