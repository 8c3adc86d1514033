"""tfqnas: quantized neural architecture search for mobile devices in Keras and TensorFlow."""

import importlib
import os
from typing import Any

# TensorFlow reads this when it is imported and leaves oneDNN off on many CPUs, where it makes the smallest
# MobileNetV3 subnet 1.5 times and its depthwise convolutions up to four times faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Public names and where they live. They are imported on first use, so that `tfqnas.arch`, `spaces` and `cost`
# stay usable without TensorFlow.
_PUBLIC = {
    "Arch": "arch",
    "Cost": "cost",
    "count": "cost",
    "LSQ": "quantizers",
    "Supernet": "supernet",
    "initialize": "supernet",
    "extract": "subnet",
    "quantize": "graph.rewriting",
    "inherit": "train.inherit",
    "recalibrate": "train.calibrate",
}

__version__ = "0.1.0"
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"tfqnas.{_PUBLIC[name]}"), name)
    if name in (
        "arch",
        "cost",
        "data",
        "layers",
        "quantizers",
        "search",
        "spaces",
        "dqss",
        "subnet",
        "supernet",
        "train",
        "zoo",
    ):
        return importlib.import_module(f"tfqnas.{name}")
    raise AttributeError(f"module 'tfqnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
