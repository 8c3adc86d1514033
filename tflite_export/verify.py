"""A Keras model, its IntGraph on numpy, and its file in LiteRT, against each other on real images."""

import dataclasses

import numpy as np

from tflite_export import reference
from tflite_export.int_graph import pixels_of
from tflite_export.runtime import Runtime


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was compared.

    Args:
        images: how many.
        identical: share of the images whose every integer is the same in the reference and in LiteRT.
        largest_difference: between the two, in steps of the output.
        same_class: share of the images on which the Keras model and LiteRT choose the same class.
        top1: accuracy of "keras", "reference" and "litert"; empty without labels.
    """

    images: int
    identical: float
    largest_difference: float
    same_class: float
    top1: dict

    def problem(self, max_accuracy_drop=0.5):
        """None, or why the file is not what was evaluated; the drop in percentage points."""
        if self.identical < 1:
            return (
                f"LiteRT and the reference differ in {1 - self.identical:.2%} of {self.images} images, by up to "
                f"{self.largest_difference:g} steps; expected the same integers"
            )
        drop = 100 * (self.top1["keras"] - self.top1["litert"]) if self.top1 else 0.0
        if drop > max_accuracy_drop:
            return (
                f"top-1 falls by {drop:.2f} points, from {self.top1['keras']:.2%} to {self.top1['litert']:.2%}; "
                f"--max_accuracy_drop allows {max_accuracy_drop:g}. --explain shows where, another --calibration or "
                "more --calibration_images may help"
            )
        return None

    def __str__(self):
        lines = [
            f"{self.images} images: reference and LiteRT identical in {self.identical:.2%} of them, largest "
            f"difference {self.largest_difference:g} steps",
            f"the same class as the Keras model in {self.same_class:.2%}",
        ]
        if self.top1:
            lines.append("top-1: " + ", ".join(f"{name} {value:.2%}" for name, value in self.top1.items()))
        return "\n".join(lines)


def verify(model, graph, blob, images, labels=None, threads=1, batch_size=64):
    """Compares model, reference and LiteRT.

    Args:
        model: the `keras.Model`. graph: `lower(model, ...)`. blob: `write(graph)`.
        images: normalised, float32 (n, height, width, channels), or batches of them.
        labels: int (n,), for accuracies.

    Returns:
        `Verification`.
    """
    runtime = Runtime(blob, threads)
    step = 1.0 if graph.tensors[graph.output].dtype != "float32" else _last_scale(graph)
    identical, largest, classes = [], 0.0, {"keras": [], "reference": [], "litert": []}
    for batch in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(batch), batch_size):
            part = batch[start : start + batch_size]
            pixels = pixels_of(graph, part)
            expected, run = reference.run(graph, pixels), runtime.run(pixels)
            difference = np.abs(expected.astype(np.float64) - run).max(axis=-1) / step
            identical.append(difference == 0)
            largest = max(largest, difference.max())
            logits = {"keras": np.asarray(model(part, training=False)), "reference": expected, "litert": run}
            for name, values in logits.items():
                classes[name].append(values.argmax(axis=-1))
    identical = np.concatenate(identical)
    classes = {name: np.concatenate(values) for name, values in classes.items()}
    top1 = {} if labels is None else {name: float((c == labels).mean()) for name, c in classes.items()}
    same = float((classes["keras"] == classes["litert"]).mean())
    return Verification(len(identical), float(identical.mean()), float(largest), same, top1)


def _last_scale(graph):
    return graph.tensors[graph.producer(graph.output).inputs[0]].scale[0]
