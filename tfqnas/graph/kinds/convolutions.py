"""Convolutions and dense layers."""

from typing import Any

import keras

from tfqnas.graph.kinds.base import Call, Reader, reads
from tfqnas.graph.sites import Site
from tfqnas.layers import QuantConv2D, QuantConv2DTranspose, QuantDense, QuantDepthwiseConv2D

_ACTIVATIONS = {"linear": "none", "relu": "relu", "relu6": "relu6", "hard_sigmoid": "hard_sigmoid"}


@reads(keras.layers.Conv2D, QuantConv2D)
def _conv_2d(reader: Reader, call: Call) -> Site:
    return _convolution(reader, call, "conv_2d", **_windows(call))


@reads(keras.layers.DepthwiseConv2D, QuantDepthwiseConv2D)
def _depthwise_conv_2d(reader: Reader, call: Call) -> Site:
    return _convolution(reader, call, "depthwise_conv_2d", **_windows(call))


@reads(keras.layers.Conv2DTranspose, QuantConv2DTranspose)
def _conv_2d_transpose(reader: Reader, call: Call) -> Site:
    layer = call.layer
    if layer.output_padding is not None:
        raise call.refuse(f"output_padding {layer.output_padding}, expected None")
    if {*layer.dilation_rate} != {1}:
        raise call.refuse(f"dilation_rate {layer.dilation_rate}, expected 1")
    options = _windows(call)
    del options["dilations"]
    return _convolution(reader, call, "transpose_conv", **options)


@reads(keras.layers.Dense, QuantDense)
def _dense(reader: Reader, call: Call) -> Site:
    """Of channels, of each pixel of an image (a 1 x 1 convolution), or of each of other positions."""
    axes = len(call.site.shape)
    if axes == 3:
        return _convolution(reader, call, "conv_2d", strides=(1, 1), padding="same")
    return _convolution(reader, call, "fully_connected", **({} if axes == 1 else {"keep_dims": True}))


def _windows(call: Call) -> dict[str, Any]:
    layer = call.layer
    if layer.padding not in ("same", "valid"):
        raise call.refuse(f"padding {layer.padding}, expected same or valid")
    dilations = tuple(getattr(layer, "dilation_rate", (1, 1)))
    return {"strides": tuple(layer.strides), "padding": layer.padding, "dilations": dilations}


def _convolution(reader: Reader, call: Call, kind: str, **options: Any) -> Site:
    layer, read = call.layer, call.site
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in _ACTIVATIONS:
        raise call.refuse(f"activation {name} inside the layer, expected a layer of its own (`normal_form` makes it)")
    if options.get("dilations") == (1, 1):
        del options["dilations"]
    if (quantizer := getattr(layer, "input_quantizer", None)) is not None:
        read = reader.quantized(call, read, quantizer)
    site = reader.new(call, kind, [read], **options)
    site.activation = _ACTIVATIONS[name]
    if site.activation == "hard_sigmoid":
        site.fixed = (0.0, 1.0)
    return site
