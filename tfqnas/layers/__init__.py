"""Quantized and elastic layers. Layers take numbers or tensors, never an `Arch`."""

from tfqnas.layers.elastic import ElasticBatchNorm, ElasticConv2D, ElasticDepthwiseConv2D, ElasticSqueezeExcite
from tfqnas.layers.mbconv import ElasticMBConv, keras_activation
from tfqnas.layers.quantized import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tfqnas.layers.tensors import DepthToSpace, Quantize, ReciprocalRoot, ScaleOffset
from tfqnas.layers.transposed import QuantConv2DTranspose

# Every layer, for the contract test of all layers (tests/layers/contract_test.py).
ALL = (
    QuantConv2D,
    QuantDepthwiseConv2D,
    QuantConv2DTranspose,
    QuantDense,
    Quantize,
    DepthToSpace,
    ScaleOffset,
    ReciprocalRoot,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    ElasticBatchNorm,
    ElasticSqueezeExcite,
    ElasticMBConv,
)

__all__ = ["ALL", "keras_activation", *(layer.__name__ for layer in ALL)]
