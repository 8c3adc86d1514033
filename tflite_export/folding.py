"""Folds BatchNorm into the weights of a layer, and turns weights and quantizers into integers and grids."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tflite_export.int_graph import RANGES
from tfqnas.errors import NoIntegersError, UnsupportedModelError
from tfqnas.graph.reading import Site
from tfqnas.quantizers import Quantizer

# If a bias has a scale above this fraction of the output's step, the scale is made finer. Its rounding error is then at
# most a sixteenth of a step.
_BIAS = 1 / 8


class ExportError(UnsupportedModelError):
    """The model has no exact integer form. The message names the layer and the value."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The values of a tensor: `scale * (q - zero_point)` with integers `q` in [128 - 2^bits, 127].

    `signed` says whether the grid has values below zero, which a fused RELU must not clip.
    """

    scale: np.float32
    zero_point: int
    bits: int = 8
    signed: bool = True

    @property
    def lowest(self) -> int:
        """The lowest integer of the grid."""
        return 127 - (2**self.bits - 1)


def wide_grid(low: float, high: float, where: str) -> Grid:
    """The 8-bit `Grid` from `low` to `high`, unsigned if `low` is not below zero; `where` is a layer for messages."""
    if not np.isfinite([low, high]).all():
        raise ExportError(f"layer {where}: its values are not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255 or 1.0)
    return Grid(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)), signed=low < 0)


def grid_of(site: Site, quantizer: Quantizer) -> Grid:
    """The `Grid` of a quantizer that stands before or after a site."""
    scale, zero = _uniform(site, quantizer)
    if quantizer.qp - quantizer.qn != 2**quantizer.bits - 1:
        raise ExportError(f"{_where(site, quantizer)}: a narrow range of inputs has no exact integer form")
    shift = 127 - quantizer.qp
    return Grid(np.float32(scale), zero + shift, quantizer.bits, signed=quantizer.qn < zero)


def _where(site: Site, quantizer: Quantizer) -> str:
    """The layer that a quantizer belongs to, and its role there."""
    owner, _, role = quantizer.path.rpartition("/")
    return f"layer {owner or site.name}, {role}"


def _uniform(site: Site, quantizer: Quantizer, x: np.ndarray | None = None) -> tuple[np.ndarray | np.float32, int]:
    """Scale and zero point of a quantizer, for the tensor `x` if they depend on it."""
    if quantizer.problem:
        raise ExportError(f"{_where(site, quantizer)}: {quantizer.problem}")
    if quantizer.bits > 8:
        raise ExportError(f"{_where(site, quantizer)}: {quantizer.bits} bits, int8 holds 8")
    _, scale, zero = _to_integers(site, quantizer, tf.zeros((1,)) if x is None else tf.convert_to_tensor(x))
    scale = np.float32(scale)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ExportError(f"{_where(site, quantizer)}: expected a positive step, received {scale}")
    return scale, int(zero)


def _to_integers(site: Site, quantizer: Quantizer, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
    """`quantizer.to_integers(x)`; raises `ExportError` for a quantizer without a uniform step."""
    try:
        return quantizer.to_integers(x)
    except (NotImplementedError, NoIntegersError) as error:
        why = str(error) and f" ({error})"
        raise ExportError(
            f"{_where(site, quantizer)}: {type(quantizer).__name__} is non-uniform, expected integers times "
            f"one step{why}"
        ) from None


class NonUniformError(ExportError):
    """Some quantizers of the model have levels that are not a uniform step apart. The message names all of them."""


def refuse_non_uniform(sites: Sequence[Site]) -> None:
    """Raises one `NonUniformError` for all quantizers without an integer form."""
    found: dict[int, str] = {}
    for site in sites:
        kernel = getattr(site.layer, "kernel", None)
        own = [(getattr(site.layer, "weight_quantizer", None), kernel), (site.quantizer, None)]
        for quantizer, x in own:
            if quantizer is not None and not quantizer.problem:
                try:
                    _to_integers(site, quantizer, tf.zeros((1,)) if x is None else tf.convert_to_tensor(x))
                except ExportError as error:
                    found.setdefault(id(quantizer), str(error))
    if found:
        raise NonUniformError("; ".join(found.values()))


@dataclasses.dataclass(frozen=True)
class Folded:
    """The weights of a convolution or dense layer with BatchNorm folded into them.

    Args:
        codes: int8 (filters, height, width, channels), for a depthwise layer (1, height, width, channels), for a dense
            layer (units, inputs).
        scale: float32 (output channels,).
        bias: float64 (output channels,), in real units.
        bits: bit width of the codes before `finer` or `folded` spread them.
        dtype: type of the codes in the file.
    """

    codes: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    bits: int
    dtype: str = "int8"


def finer(weights: Folded, inputs: np.ndarray, step: float, axis: int) -> Folded:
    """The same weights at smaller scales in channels whose bias would be coarse compared with the output's step.

    A bias is an integer at the scale of the products. A BatchNorm with a tiny variance, as in an almost dead channel,
    makes this scale large, and rounding the bias would then move the whole channel by steps of its output. Multiplying
    the codes by a whole number and dividing the scale by it computes the same, within the range of the codes' type.

    Args:
        weights: `Folded`.
        inputs: float32 (1,), the scale of the layer's input.
        step: the scale of its output.
        axis: the axis of the output channels in the codes.
    """
    largest = np.abs(weights.codes.astype(np.int64)).max(axis=tuple(i for i in range(weights.codes.ndim) if i != axis))
    room = RANGES[weights.dtype][1] // np.maximum(largest, 1)
    wanted = np.ceil(inputs * weights.scale.astype(np.float64) / (_BIAS * step))
    times = np.maximum(1, np.minimum(wanted, room)).astype(np.int64)
    if np.all(weights.scale == weights.scale[0]):  # keeps one scale: several would make a dense layer another operator
        times = np.full_like(times, times.min())
    by_channel = [-1 if i == axis else 1 for i in range(weights.codes.ndim)]
    codes = (weights.codes * times.reshape(by_channel)).astype(np.int8)
    return dataclasses.replace(weights, codes=codes, scale=(weights.scale / times).astype(np.float32))


def folded(site: Site, storage: str = "int8") -> Folded:
    """The `Folded` weights of a site; `storage` is as in `lower`."""
    layer = site.layer
    weights = [w for owner in (layer, *(a.layer for a in site.affines)) for w in getattr(owner, "weights", ())]
    if not all(np.isfinite(np.asarray(w)).all() for w in weights if "quantizer" not in w.path):
        raise ExportError(f"layer {site.name}: weights that are not finite")
    if getattr(layer, "quantization_mode", None):
        raise ExportError(f"layer {site.name}: quantized by Keras ({layer.quantization_mode}), expected float weights")
    depthwise = site.kind == "depthwise_conv_2d"
    # A BatchNorm or a factor without a convolution is a depthwise layer with a kernel of ones.
    kernel, bits = np.asarray(getattr(layer, "kernel", np.ones((1, 1, site.channels, 1)))), 8
    if site.kind == "conv_2d" and kernel.ndim == 2:  # a Dense layer that is applied to each pixel
        kernel = kernel[np.newaxis, np.newaxis]
    factor, bias = _norm(site)
    dtype = "int8"
    quantizer, codes = getattr(layer, "weight_quantizer", None), kernel
    if quantizer is not None:
        step, zero = _uniform(site, quantizer, kernel)
        if zero or not quantizer.signed:
            raise ExportError(f"layer {site.name}: expected signed weights with zero point 0, received {zero}")
        codes, bits = _to_integers(site, quantizer, tf.convert_to_tensor(kernel))[0].numpy(), quantizer.storage_bits
        if np.ndim(step) and depthwise:
            step = np.repeat(step, kernel.shape[-1])
    codes = _as_stored(site.kind, codes.astype(np.float64))
    by_channel = (1, 1, 1, -1) if depthwise else (-1, *[1] * (kernel.ndim - 1))
    if quantizer is None:
        codes = codes * factor.reshape(by_channel)
        largest = np.abs(codes).max(axis=tuple(i for i, n in enumerate(by_channel) if n == 1))
        scale = np.where(largest > 0, largest, largest.max() or 1.0) / 127
        codes = np.rint(codes / scale.reshape(by_channel))
    else:
        codes, scale = _with_signs(site, codes, step, factor, by_channel)
        if storage == "packed":
            dtype = _packed(site, codes, bits)
        # The bias is an integer at the scale of the products. With 2-bit codes this scale is so coarse that rounding
        # the bias costs points of accuracy. Spreading the codes over the range of their type makes it finer.
        spread = max(1, RANGES[dtype][1] // 2 ** (bits - 1))
        codes, scale = codes * spread, scale / spread
    if site.activation == "hard_sigmoid":
        scale, bias = scale / 6, (bias + 3) / 6
    return Folded(codes.astype(np.int8), scale.astype(np.float32), bias, bits, dtype)


def _as_stored(kind: str, kernel: np.ndarray) -> np.ndarray:
    """A kernel of Keras in the order of the file, which has the filters first, and for a depthwise layer last."""
    if kind == "depthwise_conv_2d":
        return kernel.reshape(1, *kernel.shape[:2], -1)
    if kind == "transpose_conv":
        return kernel.transpose(2, 0, 1, 3)
    return kernel.transpose((3, 0, 1, 2) if kernel.ndim == 4 else (1, 0))


def _packed(site: Site, codes: np.ndarray, bits: int) -> str:
    """The smallest type that holds the codes and that LiteRT supports for this layer."""
    types = ("int2", "int4") if site.kind == "fully_connected" else ("int4",)
    fitting = [t for t in types if RANGES[t][0] <= codes.min() and codes.max() <= RANGES[t][1]]
    return fitting[0] if fitting else "int8"


def _with_signs(
    site: Site, codes: np.ndarray, step: np.ndarray | np.float32, factor: np.ndarray, by_channel: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Multiplies quantized weights by their BatchNorm's factor: its size in the scale, its sign in the codes."""
    size = np.abs(factor)
    dead = size == 0
    scale = np.float64(step) * np.where(dead, size.max() or 1.0, size)
    codes = codes * np.where(dead, 0, np.sign(factor)).reshape(by_channel)
    if codes.max() > 127:
        raise ExportError(
            f"layer {site.name}: a negative BatchNorm factor turns weight -128 into 128, which int8 does not hold; "
            "quantize with narrow_range=True (tfqnas quantize --deployable)"
        )
    return codes, scale


def _norm(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset of a layer's bias and what it absorbed together, each float64 (channels,)."""
    layer = site.layer
    bias = np.asarray(layer.bias, np.float64) if getattr(layer, "use_bias", False) else np.zeros(site.channels)
    total = np.ones(site.channels)
    for affine in site.affines:
        factor, offset = affine.values()
        total, bias = total * factor, bias * factor + offset
    return total, bias
