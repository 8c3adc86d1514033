"""Lowers a Keras model to an `IntGraph`, with the help of calibration images.

The learned step of a layer's input quantizer is kept to the bit: it is the scale of the tensor in the file. Tensors
without a quantizer (residual stream, squeeze-excite, pooling, inputs of h-swish) get 8 bits and a range from the
images. `emitting` chooses the integers.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tflite_export import ties
from tflite_export.emitting import Emitter
from tflite_export.folding import ExportError, refuse_non_uniform
from tflite_export.inputs import checked_images, checked_normalizations
from tflite_export.int_graph import CONVOLUTIONS, IntGraph, limits
from tflite_export.ops.registry import OPERATIONS, ratios
from tfqnas.errors import UnsupportedModelError
from tfqnas.files import warn
from tfqnas.graph import grids
from tfqnas.graph.keras_internals import input_names
from tfqnas.graph.normal import normal_form, refuse_unusable
from tfqnas.graph.reading import sites_of
from tfqnas.quantizers.ranges import METHODS

_STORAGES = ("int8", "packed")


def lower(
    model: keras.Model,
    images: Any,
    calibration: str = "mse",
    normalization: Any = (128.0, 128.0),
    metadata: Mapping[str, Any] | None = None,
    storage: str = "int8",
    fold_input: bool = True,
) -> IntGraph:
    """The integer form of a Keras model.

    Args:
        model: functional or Sequential `keras.Model`, with or without quantizers, of the layers and operations that
            `tfqnas.graph.kinds` reads.
        images: calibration inputs, float32 (n, ...), such as normalised images (n, height, width, channels); for a
            model with several inputs a list in their order, or a dictionary by their names.
        calibration: how the ranges of the 8-bit tensors are found: "min_max", "percentile", "mse" or "kl".
        normalization: `(mean, divisor)` if the input is `(pixel - mean) / divisor` of a uint8 pixel, with a whole
            mean; "calibrated" if it is any other quantity, whose range is then found like that of other tensors. A
            dictionary has one for each input by name.
        metadata: JSON-able values for the file, which may hold numpy numbers; the normalization is added.
        storage: "int8" stores one weight per byte. "packed" stores weights of up to 4 bits as INT4, and those of 2-bit
            dense layers as INT2. Packed codes leave no room for finer biases, and their kernels are slower and round
            differently.
        fold_input: whether a rescaling that the model begins with may become the scale and zero point of the input.

    Returns:
        `IntGraph` from int8 pixels (pixel - 128) to int8 logits.

    Raises:
        ExportError: no exact integer form exists. The message names the layer and the value.
    """
    try:
        refuse_unusable(model)
        model = normal_form(model)
        sites, groups = grids.arranged(sites_of(model))
    except UnsupportedModelError as error:
        raise ExportError(str(error)) from None
    names = input_names(model)
    normalizations = checked_normalizations(normalization, names)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    inputs = checked_images(images, model.name, names, shapes, normalizations)
    if storage not in _STORAGES:
        raise ExportError(f"storage: expected one of {', '.join(_STORAGES)}, received {storage!r}")
    if calibration not in METHODS:
        raise ExportError(f"calibration: expected one of {', '.join(METHODS)}, received {calibration!r}")
    refuse_non_uniform(sites)
    emitter = Emitter(model, sites, groups, inputs, calibration, normalizations, storage, fold_input)
    texts = [text_of(normalization) for normalization in normalizations.values()]
    described = texts[0] if len(texts) == 1 else dict(zip(names, texts, strict=True))
    graph = saturated(emitter.graph({**_plain(metadata or {}), "normalization": described}))
    check(graph)
    if count := sum(emitter.silenced.values()):
        warn(f"{model.name}: {count} dead channels, whose weights are too small for integers, become zero in the file")
    return ties.without(graph)


def text_of(normalization: tuple[float, float] | None) -> str:
    """A normalization as files and messages state it."""
    return "calibrated" if normalization is None else f"(x - {normalization[0]:g}) / {normalization[1]:g}"


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as it is after a round trip through JSON."""
    try:
        return json.loads(json.dumps(metadata, default=lambda value: value.tolist(), allow_nan=False))  # numpy values
    except (TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"metadata: expected JSON values, such as texts, numbers and lists ({error})") from None


def saturated(graph: IntGraph) -> IntGraph:
    """The graph with requantization factors of 256 and more, which kernels refuse, replaced by 255.5.

    A channel that hardly varied in training has a tiny variance, so that one unit of its accumulator may be worth more
    steps than int8 has. Every accumulator but zero then saturates, and it still does at 255.5 steps.
    """
    tensors = dict(graph.tensors)
    for op in graph.ops:
        if op.kind not in CONVOLUTIONS:
            continue
        ratio, (_, most) = ratios(graph, op), OPERATIONS[op.kind].bounds
        smaller = np.where(ratio >= most, 255.5 / ratio.astype(np.float64), 1.0)
        for name in op.inputs[1:]:
            scale = (tensors[name].scale * smaller).astype(np.float32)
            tensors[name] = dataclasses.replace(tensors[name], scale=scale)
    return dataclasses.replace(graph, tensors=tensors)


def check(graph: IntGraph) -> None:
    """Raises `ExportError` if a requantization factor is outside the range of kernels, or an output has one value."""
    for op in graph.ops:
        operation = OPERATIONS[op.kind]
        if why := operation.problem(graph, op):
            raise ExportError(f"layer {op.source}: {why}")
        if operation.ratios is None:
            continue
        ratio, (least, most) = operation.ratios(graph, op), operation.bounds
        for worst in (ratio.max(), ratio.min()):
            if not least <= worst < most:
                what = "an accumulator" if operation.rounds_ties else "a step of an input"
                raise ExportError(
                    f"layer {op.source}: {what} is worth {worst:.3g} steps of its output, expected {least:.3g} to "
                    f"{most:g}"
                )
        low, high = limits(graph, op)
        if low >= high:
            raise ExportError(f"layer {op.source}: its output holds no value but {low}")
