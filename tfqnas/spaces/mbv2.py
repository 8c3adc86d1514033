"""The MobileNetV2 space of OQA (appendix A.5), without squeeze-excite and h-swish, with a last stage of one block."""

from typing import Any

from tfqnas.spaces.base import SearchSpace
from tfqnas.spaces.blocks import Stage

_ELASTIC: dict[str, Any] = {"kernels": (3, 5, 7), "expands": (3, 4, 6), "activation": "relu6"}
_DEPTHS = (2, 3, 4)

MBV2 = SearchSpace(
    name="mbv2",
    resolutions=tuple(range(128, 225, 4)),
    stem_channels=32,
    stem_activation="relu6",
    stages=(
        Stage(16, stride=1, depths=(1,), kernels=(3,), expands=(1,), activation="relu6"),
        Stage(24, stride=2, depths=_DEPTHS, **_ELASTIC),
        Stage(40, stride=2, depths=_DEPTHS, **_ELASTIC),
        Stage(80, stride=2, depths=_DEPTHS, **_ELASTIC),
        Stage(96, stride=1, depths=_DEPTHS, **_ELASTIC),
        Stage(192, stride=2, depths=_DEPTHS, **_ELASTIC),
        Stage(320, stride=1, depths=(1,), **_ELASTIC),
    ),
    head_channels=1280,
    head_activation="relu6",
)
