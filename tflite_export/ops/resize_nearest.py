"""Images of another size, each pixel from the nearest one."""

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.base import Operation
from tflite_export.ops.common import Values


def compute(graph: IntGraph, op: IntOp, values: Values) -> np.ndarray:
    """The integers of the nearest pixels."""
    x, (height, width, _) = values[op.inputs[0]], graph.tensors[op.outputs[0]].shape
    return x[:, _nearest(height, x.shape[1])][:, :, _nearest(width, x.shape[2])]


def _nearest(size: int, source: int) -> np.ndarray:
    """int (size,): the source pixel of each output pixel along an axis, with half-pixel centres."""
    scale = np.float32(source) / np.float32(size)
    places = np.floor((np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale).astype(int)
    return np.minimum(places, source - 1)


def size_of(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    """Height and width of the output."""
    return [np.array(graph.tensors[op.outputs[0]].shape[:2], np.int32)]


def half_pixels(graph: IntGraph, op: IntOp) -> dict[str, bool]:
    """The pixels' centres are half a pixel from the border."""
    return {"halfPixelCenters": True}


OPERATION = Operation(
    compute, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", 3, half_pixels, arguments=size_of, one_grid=True
)
