"""`export` turns a Keras model into the bytes of an integer `.tflite` file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tflite_export.int_graph import check_interface, with_interface
from tflite_export.lower import lower
from tflite_export.writer import write


def export(
    model: Any,
    calibration: np.ndarray,
    method: str = "percentile",
    input_type: str = "int8",
    output_type: str = "int8",
    normalization: tuple[float, float] = (128.0, 128.0),
    metadata: Mapping[str, Any] | None = None,
    storage: str = "int8",
) -> bytes:
    """The bytes of a `.tflite` file that computes `model` in integers.

    Args:
        model: functional or Sequential `keras.Model`, such as `tfqnas.extract` returns.
        calibration: normalised images, float32 (n, height, width, channels), from which the ranges of 8-bit tensors
            are found.
        method: how the ranges are found: "min_max", "percentile", "mse" or "kl".
        input_type: "int8" (pixel - 128) or "uint8" (pixels).
        output_type: "int8" or "float32" ("float").
        normalization: `(mean, divisor)` of the pixels in `calibration`; the mean is an integer.
        metadata: JSON-able values, which may hold numpy numbers. The file stores them under "tfqnas", together with
            the normalization.
        storage: "int8", or "packed" for INT4 and INT2 weights (a smaller file with slower kernels, see `lower`).

    Raises:
        ExportError: no exact integer form exists. The message names the layer and the value.
        ValueError: an input or output type is not supported.
    """
    interface = check_interface(input_type, output_type)
    graph = lower(model, calibration, method, normalization, metadata, storage)
    return write(with_interface(graph, *interface))
