"""`export` turns a Keras model into the bytes of an integer `.tflite` file."""

from collections.abc import Mapping
from typing import Any

from tflite_export.int_graph import check_interface, with_interface
from tflite_export.lower import lower
from tflite_export.writer import write


def export(
    model: Any,
    calibration: Any,
    method: str = "mse",
    input_type: str = "int8",
    output_type: str = "int8",
    normalization: Any = (128.0, 128.0),
    metadata: Mapping[str, Any] | None = None,
    storage: str = "int8",
) -> bytes:
    """The bytes of a `.tflite` file that computes `model` in integers.

    Args:
        model: functional or Sequential `keras.Model`, such as `tfqnas.extract` returns.
        calibration: normalised images, float32 (n, height, width, channels), from which the ranges of 8-bit tensors
            are found; for several inputs a list in their order, or a dictionary by their names.
        method: how the ranges are found: "min_max", "percentile", "mse" or "kl".
        input_type: "int8" (pixel - 128), "uint8" (pixels) or "float32" (what the Keras model takes).
        output_type: "int8" or "float32" ("float").
        normalization: `(mean, divisor)` of the pixels in `calibration`, the mean being an integer, or "calibrated"
            for inputs that are no pixels; a dictionary has one for each input by name.
        metadata: JSON-able values, which may hold numpy numbers. The file stores them under "tfqnas", together with
            the normalization.
        storage: "int8", or "packed" for INT4 and INT2 weights (a smaller file with slower kernels, see `lower`).

    Raises:
        ExportError: no exact integer form exists. The message names the layer and the value.
        ValueError: an input or output type is not supported.
    """
    interface = check_interface(input_type, output_type)
    folds = interface[0] != "float32"
    graph = lower(model, calibration, method, normalization, metadata, storage, fold_input=folds)
    return write(with_interface(graph, *interface))
