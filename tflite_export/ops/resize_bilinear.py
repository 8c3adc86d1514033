"""Images of another size, each pixel between four."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values
from tflite_export.ops.resize_nearest import half_pixels, size_of


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """XNNPACK's integer kernel: weights in units of 1/2048 along each axis, rounded once with halves up."""
    x, (height, width, _) = values[op.inputs[0]].astype(np.int64), graph.tensors[op.outputs[0]].shape
    (top, bottom, down), (left, right, along) = _between(height, x.shape[1]), _between(width, x.shape[2])
    rows = (x[:, :, left] << 11) + (x[:, :, right] - x[:, :, left]) * along[:, np.newaxis]
    sums = (rows[:, top] << 11) + (rows[:, bottom] - rows[:, top]) * down[:, np.newaxis, np.newaxis]
    return ((sums + (1 << 21)) >> 22).astype(np.int8)


def _between(size: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two source pixels around each output pixel, and its distance from the first in units of 1/2048."""
    scale = np.float32(source) / np.float32(size)
    offset = np.float32(0.5) * scale - np.float32(0.5)
    places = np.clip(np.arange(size, dtype=np.float32) * scale + offset, 0, np.float32(source - 1))
    first = places.astype(int)
    return first, np.minimum(first + 1, source - 1), np.rint((places - first.astype(np.float32)) * 2048).astype(int)


OPERATION = Operation(
    compute, "RESIZE_BILINEAR", "ResizeBilinearOptions", 3, half_pixels, arguments=size_of, one_grid=True
)
