"""A part of a tensor, as a strided slice whose steps are 1: XNNPACK has no slice of a batch of unknown size."""

from tflite_export.ops.strided_slice import OPERATION

__all__ = ["OPERATION"]
