"""Shows layer by layer where an integer model departs from its Keras model, and what that costs in accuracy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tflite_export import reference
from tflite_export.int_graph import IntGraph, IntTensor, pixels_of
from tfqnas.graph.keras_internals import filled, nodes_of
from tfqnas.graph.normal import normal_form
from tfqnas.graph.reading import sites_of
from tfqnas.tasks.base import Task, listed
from tfqnas.tasks.classification import Classification


def columns(task: Task) -> tuple[tuple[str, ...], ...]:
    """The columns of a table of records, with the score of a task."""
    return (*_COLUMNS, ("alone", f"{task.title} alone", ".2%" if task.unit == "%" else ".2f"))


_COLUMNS = (
    ("layer", "layer"),
    ("bits", "bits"),
    ("step", "step", ".4g"),
    ("low", "lowest", ".3g"),
    ("high", "highest", ".3g"),
    ("clipped", "clipped", ".2%"),
    ("noise", "noise", ".3f"),
)
NOTE = (
    "noise: the difference from the Keras model's tensor, all layers before it included, over the tensor's own spread. "
    "alone: the score of the Keras model if this tensor alone is rounded to its integers."
)


def explain(
    model: keras.Model,
    graph: IntGraph,
    images: np.ndarray,
    targets: Any,
    update: Callable[[float], object] | None = None,
    task: Task | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """One record per layer, with its grid, its noise, and the score if only this layer is rounded.

    Args:
        model: the `keras.Model`.
        graph: `lower(model, ...)`.
        images: normalised, float32 (n, height, width, channels).
        targets: what the task scores outputs by, such as int labels (n,); None if it compares with another model,
            which is the Keras model here.
        update: called with the fraction of layers done.
        task: what the outputs are for, by default classification.

    Returns:
        A list of dictionaries with the keys of `columns`, and the score of the Keras model on these images.
    """
    task, model = task or Classification(), normal_form(model)
    left_out = ("input", "constant", "requantize", "rescale")
    sites = [site for site in sites_of(model) if site.kind not in left_out and site.name in graph.tensors]
    names = [site.name for site in sites]
    _, kept = reference.run(graph, pixels_of(graph, images), keep=names)
    values = keras.Model(model.inputs[0], [site.tensor for site in sites])(images, training=False)
    values = values if isinstance(values, list | tuple) else [values]
    outputs = _one([np.asarray(y) for y in listed(model(images, training=False))])
    targets = outputs if task.by_reference else targets
    whole = task.total(task.tally(outputs, targets))
    records = []
    for site, value in zip(sites, values, strict=True):
        tensor, value = graph.tensors[site.name], np.asarray(value)
        rounded = _rounded(tensor, value)
        integers = reference.dequantized(tensor, kept[site.name]).reshape(value.shape)
        spread = rounded.std() or 1.0
        outputs = _rerun(model, site.tensor, rounded, images)
        records.append(
            {
                "layer": site.name,
                "bits": tensor.bits,
                "step": float(tensor.scale[0]),
                "low": float(value.min()),
                "high": float(value.max()),
                "clipped": float((np.abs(rounded - value) > 0.51 * tensor.scale[0]).mean()),
                "noise": float(np.sqrt(((integers - rounded) ** 2).mean()) / spread),
                "alone": task.total(task.tally(outputs, targets)),
            }
        )
        if update is not None:
            update(len(records) / len(sites))
    return records, whole


def costliest(records: Sequence[Mapping[str, Any]], whole: float, task: Task | None = None) -> str:
    """A line of text that names the layer whose rounding alone costs most, or else the noisiest layer.

    Args:
        records, whole: the result of `explain`.
        task: as in `explain`.
    """
    task = task or Classification()
    worst = min(records, key=lambda record: (record["alone"], -record["noise"]))
    if worst["alone"] >= whole:
        noisy = max(records, key=lambda record: record["noise"])
        return f"no layer alone costs {task.metric}; most noise: {noisy['layer']} ({noisy['noise']:.3f})"
    if task.by_reference:
        return f"costs most: {worst['layer']}, {task.shown(worst['alone'])} on these images"
    _, lost = task.lost(whole, worst["alone"])
    return f"costs most: {worst['layer']}, {lost} of the Keras model's {task.shown(whole)} on these images"


def _one(outputs: list[np.ndarray]) -> Any:
    """The only output, or the list of several."""
    return outputs[0] if len(outputs) == 1 else outputs


def _rounded(tensor: IntTensor, value: np.ndarray) -> np.ndarray:
    """A float tensor rounded to the grid of an integer tensor, as if no layer before it were rounded."""
    low = tensor.range[0] if tensor.bits == 8 else 128 - 2**tensor.bits
    codes = np.clip(np.rint(value / tensor.scale[0]) + tensor.zero_point, low, tensor.range[1])
    return ((codes - tensor.zero_point) * tensor.scale[0]).astype(np.float32)


def _rerun(model: keras.Model, tensor: keras.KerasTensor, value: np.ndarray, images: np.ndarray) -> Any:
    """The model's outputs after one of its tensors is replaced by `value`."""
    values = {id(model.inputs[0]): images, id(tensor): value}
    for node in nodes_of(model):
        if all(id(result) in values for result in node.output_tensors):
            continue
        args, kwargs = filled(node, values)
        results = keras.tree.flatten(node.operation(*args, **kwargs))
        values = {**{id(t): y for t, y in zip(node.output_tensors, results, strict=True)}, **values}
    return _one([np.asarray(values[id(y)]) for y in model.outputs])
