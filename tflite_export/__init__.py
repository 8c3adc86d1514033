"""Exports quantized Keras models to integer `.tflite` files that compute exactly what was evaluated."""

import importlib
from typing import Any

# `lower` and `verify` are absent: a module and a function with the same name hide each other.
_HOMES = {
    "export": "tflite_export.exporting",
    "IntGraph": "tflite_export.int_graph",
    "snap_biases": "tflite_export.biases",
    "ExportError": "tflite_export.folding",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Imported on first use: TensorFlow takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tflite_export' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
