"""Activations: fused ones, tables, and those that clip."""

from typing import Any

import keras
import numpy as np

from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.sites import CLIPPING, RANGES, Affine, Site
from tfqnas.layers import ReciprocalRoot

_BY_NAME = {
    "relu": "relu",
    "relu6": "relu6",
    "hard_sigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "sigmoid": "logistic",
    "tanh": "tanh",
    "elu": "elu",
    "gelu": "gelu",
    "exponential": "exp",
    "softmax": "softmax",
}
_OPERATIONS = {"Sigmoid": "logistic", "Tanh": "tanh", "HardSilu": "hard_swish", "HardSigmoid": "hard_sigmoid"}
_OPERATIONS |= {"Exp": "exp", "Log": "log", "Rsqrt": "rsqrt"}


@reads(keras.layers.Activation)
def _activation(reader: Reader, call: Call) -> Site:
    name = getattr(call.layer.activation, "__name__", str(call.layer.activation))
    if name == "linear":
        return call.site
    if name == "leaky_relu":
        return _leaky(reader, call, 0.2)
    if name not in _BY_NAME:
        raise call.refuse(f"activation {name}, expected one of {', '.join(sorted(_BY_NAME))}")
    return _of(reader, call, _BY_NAME[name])


@reads(*_OPERATIONS)
def _operation(reader: Reader, call: Call) -> Site:
    return _of(reader, call, _OPERATIONS[type(call.layer).__name__])


@reads("Abs", "Absolute")
def _abs(reader: Reader, call: Call) -> Site:
    """The larger of `x` and `-x`."""
    turned = reader.new(call, "mul", [call.site, reader.constant(call, -1.0)])
    return reader.new(call, "maximum", [call.site, turned])


@reads(ReciprocalRoot)
def _reciprocal_root(reader: Reader, call: Call) -> Site:
    return _of(reader, call, "rsqrt")


@reads("Gelu")
def _gelu(reader: Reader, call: Call) -> Site:
    return _of(reader, call, "gelu", approximate=bool(call.layer.approximate))


@reads("LeakyRelu", keras.layers.LeakyReLU)
def _leaky_relu(reader: Reader, call: Call) -> Site:
    return _leaky(reader, call, float(call.layer.negative_slope))


def _leaky(reader: Reader, call: Call, alpha: float) -> Site:
    """The larger of `x` and `alpha x`: LiteRT's own kernel has slopes of 8 fractional bits, so it computes others."""
    part = reader.new(call, "mul", [call.site, reader.constant(call, alpha)])
    return reader.new(call, "maximum" if alpha <= 1 else "minimum", [call.site, part])


@reads("Elu", keras.layers.ELU)
def _elu(reader: Reader, call: Call) -> Site:
    if (alpha := float(getattr(call.layer, "alpha", 1.0))) != 1.0:
        raise call.refuse(f"alpha {alpha:g}, expected 1")
    return _of(reader, call, "elu")


@reads(keras.layers.PReLU)
def _prelu(reader: Reader, call: Call) -> Site:
    """The larger of `x` and `alpha x`."""
    alpha = np.asarray(call.layer.alpha, np.float64)
    if alpha.max() > 1:
        raise call.refuse(f"a slope of {alpha.max():g}, expected at most 1")
    if alpha.size in (1, call.site.channels):
        part = reader.unit(call, call.site, Affine(None, alpha.reshape(-1), 0.0))
    else:
        part = reader.new(call, "mul", [call.site, reader.constant(call, alpha[np.newaxis])])
    return reader.new(call, "maximum", [call.site, part])


@reads(keras.layers.Softmax, "Softmax")
def _softmax(reader: Reader, call: Call) -> Site:
    axis = call.layer.axis
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if not isinstance(axis, int) or axis % call.axes != call.axes - 1:
        raise call.refuse(f"axis {axis}, expected the last one")
    return _of(reader, call, "softmax")


@reads(keras.layers.ReLU, "Relu", "Relu6", "ReLU")
def _relu(reader: Reader, call: Call) -> Site:
    layer, kind = call.layer, type(call.layer).__name__
    top = 6.0 if kind == "Relu6" else getattr(layer, "max_value", None)
    if getattr(layer, "threshold", 0.0):
        raise call.refuse(f"threshold {layer.threshold:g}, expected 0")
    if slope := float(getattr(layer, "negative_slope", 0.0) or 0.0):
        return _leaky(reader, call, slope)
    site = _of(reader, call, "relu6" if top == 6.0 else "relu")
    if top is not None and top != 6.0:
        _clipping(site)
    return site


@reads("Clip", "Minimum", "Maximum", keras.layers.Maximum, keras.layers.Minimum)
def _clip(reader: Reader, call: Call) -> Site:
    """A tensor between constants, or the larger or smaller of two tensors."""
    kind = type(call.layer).__name__
    if len(call.sites) == 2:
        return reader.new(call, kind.lower())
    if kind == "Clip":
        low, high = float(call.layer.x_min), float(call.layer.x_max)
    else:
        value = next(x for x in (call.arguments["x1"], call.arguments["x2"]) if not isinstance(x, Site))
        low, high = (float(value), float("inf")) if kind == "Maximum" else (float("-inf"), float(value))
    if low > 0 or high < 0:
        raise call.refuse(f"values from {low:g} to {high:g}, expected zero among them")
    if low == 0 and high == float("inf"):
        return _of(reader, call, "relu")
    site = _of(reader, call, "relu") if low == 0 else reader.new(call, "requantize")
    _clipping(site)
    return site


def _clipping(site: Site) -> None:
    while site.kind == "reshape":
        site = site.inputs[0]
    site.clips = True


def _of(reader: Reader, call: Call, kind: str, **options: Any) -> Site:
    if kind not in ("relu", "relu6", "hard_sigmoid"):
        site = reader.new(call, kind, **options)
        site.fixed = RANGES.get(kind)
        return site
    kinds = CLIPPING if kind != "hard_sigmoid" else tuple(k for k in CLIPPING if k not in ("add", "sub", "mul"))
    site, absorber = call.site, reader.absorber(call.site, kinds, axis=False)
    if kind == "hard_sigmoid":
        if absorber is None or absorber.kind == "requantize":
            site = reader.unit(call, call.site, Affine())
            absorber = reader.absorber(site, axis=False)
        assert absorber is not None
        absorber.fixed = (0.0, 1.0)
    elif absorber is None:
        site = absorber = reader.new(call, "requantize")
    absorber.activation = kind
    return site
