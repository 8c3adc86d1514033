"""Computes an `IntGraph` in numpy. This is the specification of the `.tflite` file and the evaluation of record.

The arithmetic is that of XNNPACK, LiteRT's default on CPUs. Accumulators are int32. Requantization is
`rint(float32(accumulator) * ratio)` in float32 with ties to even, followed by zero point and clipping; only means
and sums differ (`ops.mean`, `ops.add`). ARM64 rounds ties up, which is why the exporter removes them (`ties`).
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from tflite_export.int_graph import IntGraph, dequantized
from tflite_export.ops.registry import OPERATIONS


def run(graph: IntGraph, pixels: Any, batch_size: int = 256, keep: Collection[str] = ()) -> Any:
    """The integers that the graph computes.

    Args:
        graph: `IntGraph`.
        pixels: what `int_graph.pixels_of` returns: integers of the graph's input type, (n, height, width, channels),
            or a list of these for several inputs.
        batch_size: number of images that are computed at a time.
        keep: names of other tensors to return.

    Returns:
        The output's integers (n, ...), or a list of these for several outputs. With `keep` a tuple of this and of
        `{name: integers}` of the tensors in `keep`.
    """
    given = pixels if isinstance(pixels, list | tuple) else [pixels]
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*graph.outputs, *keep)}
    for start in range(0, len(given[0]), batch_size):
        batch = dict(zip(graph.inputs, (x[start : start + batch_size] for x in given), strict=True))
        values = _run_batch(graph, batch, set(found))
        for name, parts in found.items():
            parts.append(values[name])
    joined = {name: np.concatenate(parts) for name, parts in found.items()}
    results = [joined[name] for name in graph.outputs]
    result = results if len(results) > 1 else results[0]
    return (result, {name: joined[name] for name in keep}) if keep else result


def logits(graph: IntGraph, integers: Any) -> Any:
    """float32: the values that the integers of the graph's output represent; a list of them for several outputs."""
    if isinstance(integers, list | tuple):
        return [dequantized(graph.tensors[n], values) for n, values in zip(graph.outputs, integers, strict=True)]
    return dequantized(graph.tensors[graph.output], integers)


def _run_batch(graph: IntGraph, values: dict[str, np.ndarray], keep: Collection[str]) -> dict[str, np.ndarray]:
    last_use = {name: i for i, op in enumerate(graph.ops) for name in op.inputs}
    for i, op in enumerate(graph.ops):
        values[op.outputs[0]] = OPERATIONS[op.kind].compute(graph, op, values)
        for name in op.inputs:  # frees activations after their last use
            if last_use[name] == i and name not in keep:
                values.pop(name, None)
    return values
