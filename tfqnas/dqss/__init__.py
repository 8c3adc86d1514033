"""Differentiable quantization strategy search (DQSS): mixtures of quantizers become the best of them.

result = tfqnas.dqss.search_post_training(model, images, tfqnas.dqss.PostTrainingSettings(bits=4))
result.model.save("quantized.keras")
"""

import importlib
from typing import Any

# Where the names are that this gives out: loaded on use, since settings need no TensorFlow.
_HOMES = {
    "freeze": "freezing",
    "search_post_training": "post_training",
    "search_training": "training",
    "PostTrainingSettings": "config",
    "TrainingSettings": "config",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
