"""`Site`, one computation of a model that becomes one integer operation, and the families of their kinds."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfqnas.quantizers import Quantizer

# These kinds have a kernel; a BatchNorm and an activation behind them are part of them.
CONVOLUTIONS = ("conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected")
# These kinds only move or choose values, so that their output has the integers of their inputs.
MOVES = (
    "max_pool_2d",
    "pad",
    "mirror_pad",
    "reshape",
    "resize_nearest",
    "depth_to_space",
    "space_to_depth",
    "slice",
    "strided_slice",
    "transpose",
    "reduce_max",
    "concatenation",
    "maximum",
    "minimum",
)
# These kinds round, and their kernels have the same scale for input and output.
ONE_SCALE = ("average_pool_2d", "resize_bilinear")
# The ranges that kernels give their output, or the model itself.
RANGES = {"softmax": (0.0, 255 / 256), "logistic": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
# These operations can clip below zero themselves.
CLIPPING = (*CONVOLUTIONS, "add", "sub", "mul", "requantize")


@dataclasses.dataclass(eq=False)
class Affine:
    """`factor * x + offset` in each channel, behind a computation.

    Args:
        layer: the BatchNormalization or other layer that computes it, or None.
        factor, offset: float64 numbers or arrays (channels,), if no layer with weights has them.
    """

    layer: Any = None
    factor: Any = 1.0
    offset: Any = 0.0

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """`(factor, offset)`, float64, of the weights that the layer has now."""
        layer = self.layer
        if isinstance(layer, keras.layers.BatchNormalization):
            deviation = np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
            factor = (np.asarray(layer.gamma, np.float64) if layer.scale else 1.0) / deviation
            beta = np.asarray(layer.beta, np.float64) if layer.center else 0.0
            return factor, beta - np.asarray(layer.moving_mean, np.float64) * factor
        if layer is not None:
            own = (getattr(layer, "gamma", None), getattr(layer, "beta", None))
            known: list[Any] = [d if v is None else v for v, d in zip(own, (1.0, 0.0), strict=True)]
            return np.asarray(known[0], np.float64), np.asarray(known[1], np.float64)
        return np.asarray(self.factor, np.float64), np.asarray(self.offset, np.float64)

    @property
    def trained_offset(self) -> Any:
        """The variable of the offset, or None."""
        return getattr(self.layer, "beta", None)


@dataclasses.dataclass(eq=False)
class Site:
    """One computation of a model and its float output tensor.

    Args:
        layer: the Keras layer or operation that computes it.
        name: unique among the sites.
        kind: "input", "constant", "requantize" (the same values on another grid), or the kind of an integer operation.
            A factor and an offset for each channel that no site before can absorb is a depthwise convolution with a
            1 x 1 kernel.
        inputs: the sites that it reads.
        shape: shape of its tensor without the batch axis.
        tensor: the Keras tensor after all that the site absorbed; None for a quantizer inside a layer.
        options: of the integer operation.
        affines: the absorbed BatchNorms, factors and offsets.
        activation: "none", "relu", "relu6" or "hard_sigmoid", fused.
        quantizer: the quantizer whose grid its tensor has, or None.
        fixed: (low, high) of its tensor if these are known, or None.
        constant: the float values of a constant.
        readers: the sites that read it, with a site that reads it twice in it twice.
        places: its places among the outputs of the model.
        clips: whether the ends of its grid clip its values, so that a grid from other values would be wrong.
    """

    layer: Any
    name: str
    kind: str
    inputs: list[Site]
    shape: tuple[int, ...] = ()
    tensor: keras.KerasTensor | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    affines: list[Affine] = dataclasses.field(default_factory=list)
    activation: str = "none"
    quantizer: Quantizer | None = None
    fixed: tuple[float, float] | None = None
    constant: np.ndarray | None = None
    readers: list[Site] = dataclasses.field(default_factory=list)
    places: tuple[int, ...] = ()
    clips: bool = False

    @property
    def channels(self) -> int:
        """Size of the last axis."""
        return self.shape[-1]

    @property
    def moves(self) -> bool:
        """Whether its integers are those of its inputs, so that they share a grid."""
        return self.kind in MOVES

    @property
    def is_alone(self) -> bool:
        """Whether exactly one site reads it, and the model does not give it out."""
        return len(self.readers) == 1 and not self.is_output

    @property
    def is_output(self) -> bool:
        """Whether the model gives its tensor out."""
        return bool(self.places)

    @property
    def has_fixed_grid(self) -> bool:
        """Whether the grid of its tensor is given, as it is for pixels, gates and probabilities."""
        return self.kind == "input" or self.fixed is not None

    def replace_input(self, old: Site, new: Site) -> None:
        """Reads `new` wherever it read `old`."""
        count = sum(read is old for read in self.inputs)
        self.inputs = [new if read is old else read for read in self.inputs]
        old.readers = [reader for reader in old.readers if reader is not self]
        new.readers += [self] * count
