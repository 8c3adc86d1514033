"""From a Keras model to the bytes of an integer `.tflite` file."""

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
    """The bytes of a `.tflite` file that computes in integers what `model` computes.

    Args:
        model: functional or Sequential `keras.Model`, as `tfqnas.extract` makes them.
        calibration: normalised images, float32 (n, height, width, channels), for the ranges of 8-bit tensors.
        method: "min_max", "percentile", "mse" or "kl", how the ranges are found.
        input_type: "int8" (pixel - 128) or "uint8" (pixels). output_type: "int8" or "float32" ("float").
        normalization: `(mean, divisor)` of the pixels in `calibration`; the mean an integer.
        metadata: JSON-able, numpy's numbers included; stored in the file under "tfqnas", with the normalization.
        storage: "int8" or "packed" (INT4 and INT2 weights: a smaller file, slower kernels, see `lower`).

    Raises:
        ExportError: where no exact integer form exists, with the layer and the value.
        ValueError: for other types of input and output.
    """
    interface = check_interface(input_type, output_type)
    graph = lower(model, calibration, method, normalization, metadata, storage)
    return write(with_interface(graph, *interface))
