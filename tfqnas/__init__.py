"""tfqnas: quantized neural architecture search for mobile devices in Keras and TensorFlow."""

import os

import lazy_loader

# TensorFlow reads this when it is imported and leaves oneDNN off on many CPUs, where it makes the smallest
# MobileNetV3 subnet 1.5 times and its depthwise convolutions up to four times faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
# Names are imported on first use, so that `tfqnas.arch`, `spaces` and `cost` can be used without TensorFlow.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    [
        "arch",
        "cost",
        "data",
        "dqss",
        "layers",
        "quantizers",
        "search",
        "spaces",
        "subnet",
        "supernet",
        "tasks",
        "train",
        "zoo",
    ],
    {
        "arch": ["Arch"],
        "cost": ["Cost", "count"],
        "graph.rewriting": ["quantize"],
        "quantizers": ["LSQ"],
        "subnet": ["extract"],
        "supernet": ["Supernet", "initialize"],
        "train.calibrate": ["recalibrate"],
        "train.inherit": ["inherit"],
    },
)
