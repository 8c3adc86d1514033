"""A small space with all features of MobileNetV3 for images of about 28 pixels, for tests and first steps."""

import dataclasses
from typing import Any

from tfqnas.spaces.base import SearchSpace
from tfqnas.spaces.blocks import Stage

_ELASTIC: dict[str, Any] = {"depths": (1, 2), "kernels": (3, 5), "expands": (3, 4, 6)}

TINY = SearchSpace(
    name="tiny",
    resolutions=(24, 28, 32),
    stem_channels=16,
    stem_activation="hswish",
    stages=(
        Stage(16, stride=1, depths=(1,), kernels=(3,), expands=(1,)),
        Stage(24, stride=2, **_ELASTIC),
        Stage(40, stride=2, se=True, **_ELASTIC),
        Stage(64, stride=1, activation="hswish", **_ELASTIC),
    ),
    head_channels=192,
    feature_channels=256,
    head_activation="hswish",
)

# With a bit width for the weights and one for the inputs of every quantized convolution, as in QFA.
TINY_QFA = dataclasses.replace(TINY, name="tiny_qfa", weight_bits=(2, 3, 4), input_bits=(2, 3, 4))

# ReLU runs faster in integers than h-swish (docs/results/export.md).
TINY_RELU = dataclasses.replace(
    TINY,
    name="tiny_relu",
    stem_activation="relu",
    head_activation="relu",
    stages=tuple(dataclasses.replace(stage, activation="relu") for stage in TINY.stages),
)
