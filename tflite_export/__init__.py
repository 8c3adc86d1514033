"""Exports quantized Keras models to integer `.tflite` files that compute exactly what was evaluated."""

import lazy_loader

# Imported on first use, since TensorFlow takes seconds. `lower` and `verify` are absent: a module and a function with
# the same name hide each other.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "biases": ["snap_biases"],
        "exporting": ["export"],
        "folding": ["ExportError"],
        "int_graph": ["IntGraph"],
    },
)
