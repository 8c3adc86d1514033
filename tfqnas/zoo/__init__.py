"""Networks to quantize: small ones to train here, and one with ImageNet weights. Nothing heavy is loaded by the import.

model = tfqnas.zoo.build("mobilenet_small", num_classes=10, channels=1, size=28)
model = tfqnas.zoo.load("efficientnet_lite0")
"""

import importlib
from typing import Any

# What `build` makes, by the task.
CLASSIFIERS = ("mobilenet_small", "resnet_small")
SUPER_RESOLUTION = ("edsr", "srresnet")
NAMES = CLASSIFIERS + SUPER_RESOLUTION

_HOMES = {
    "build": "networks",
    "load": "networks",
    "labelled_photos": "labelled",
    "with_input_size": "sizes",
    "with_pixel_output": "super_resolution",
    "upscaled": "upscaling",
}

__all__ = ["CLASSIFIERS", "NAMES", "SUPER_RESOLUTION", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
