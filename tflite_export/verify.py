"""A Keras model, its IntGraph on numpy, and its file in LiteRT, against each other on real images."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tflite_export import reference
from tflite_export.int_graph import IntGraph, is_packed, pixels_of
from tflite_export.runtime import KERNELS, Runtime


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was compared.

    Args:
        images: how many LiteRT computed. compared: how many of them the model and the reference computed, too.
        identical: share of those whose every integer is the same in the reference and in LiteRT.
        largest_difference: between the two, in steps of the output.
        same_class: share of those on which the Keras model and LiteRT choose the same class.
        top1: accuracy of "litert" and, if they computed all images, of "keras" and "reference"; empty without labels.
        compared_top1: accuracies of all three on the images compared.
        exact: whether the same integers are expected: not with packed weights, whose kernels round otherwise.
    """

    images: int
    compared: int
    identical: float
    largest_difference: float
    same_class: float
    top1: dict[str, float]
    compared_top1: dict[str, float] = dataclasses.field(default_factory=dict)
    exact: bool = True

    def record(self) -> dict[str, Any]:
        """JSON-able, for the metadata of the file: top-1 of each, and of how many images."""
        found: dict[str, Any] = {**self.top1, "images": self.images}
        if self.compared < self.images:
            found["compared"] = {**self.compared_top1, "images": self.compared}
        return found

    def problem(self, max_accuracy_drop: float = 0.5) -> str | None:
        """None, or why the file is not what was evaluated; the drop in percentage points."""
        if self.exact and self.identical < 1:
            return (
                f"LiteRT and the reference differ in {1 - self.identical:.2%} of {self.compared} images, by up to "
                f"{self.largest_difference:g} steps; expected the same integers"
            )
        drop = 100 * (self.top1["keras"] - self.top1["litert"]) if "keras" in self.top1 else 0.0
        if drop > max_accuracy_drop:
            return (
                f"top-1 falls by {drop:.2f} points, from {self.top1['keras']:.2%} to {self.top1['litert']:.2%}; "
                f"--max_accuracy_drop allows {max_accuracy_drop:g}. --explain shows where, another --calibration or "
                "more --calibration_images may help"
            )
        return None

    def __str__(self) -> str:
        lines = [
            f"{self.compared} images: reference and LiteRT identical in {self.identical:.2%} of them, largest "
            f"difference {self.largest_difference:g} steps",
            f"the same class as the Keras model in {self.same_class:.2%}",
        ]
        if self.top1:
            lines.append("top-1: " + ", ".join(f"{name} {value:.2%}" for name, value in self.top1.items()))
        return "\n".join(lines)


def verify(
    model: Callable[..., Any],
    graph: IntGraph,
    blob: bytes,
    images: np.ndarray | Iterable[np.ndarray],
    labels: np.ndarray | None = None,
    threads: int = 1,
    limit: int | None = None,
    batch_size: int = 64,
    update: Callable[[int], object] | None = None,
) -> Verification:
    """Compares model, reference and LiteRT.

    Args:
        model: the `keras.Model`. graph: `lower(model, ...)`. blob: `write(graph)`.
        images: normalised, float32 (n, height, width, channels), or batches of them.
        labels: int (n,), for accuracies.
        limit: how many images model and reference compute, which take 20 times as long as LiteRT: with labels, chosen
            at random, always the same ones, else the first. None: all.
        update: None, or called with the number of images done, for progress.

    Returns:
        `Verification`.
    """
    runtime = Runtime(blob, threads)
    step = 1.0 if graph.tensors[graph.output].dtype != "float32" else _last_scale(graph)
    chosen = _chosen(len(labels), limit) if labels is not None and limit is not None else None
    steps: list[np.ndarray] = []
    chosen_classes: dict[str, list[np.ndarray]] = {"keras": [], "reference": [], "litert": []}
    looked_at: list[np.ndarray] = []
    count = 0
    for batch in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(batch), batch_size):
            part = batch[start : start + batch_size]
            pixels = pixels_of(graph, part)
            integers = runtime.run(pixels)
            chosen_classes["litert"].append(integers.argmax(axis=-1))
            places = np.arange(count, count + len(part))
            some = places < (np.inf if limit is None else limit) if chosen is None else chosen[places]
            if some.any():
                expected = reference.run(graph, pixels[some])
                steps.append(np.abs(expected.astype(np.float64) - integers[some]).max(axis=-1) / step)
                chosen_classes["reference"].append(expected.argmax(axis=-1))
                chosen_classes["keras"].append(np.asarray(model(part[some], training=False)).argmax(axis=-1))
            looked_at.append(some)
            count += len(part)
            if update is not None:
                update(count)
    differences, compared = np.concatenate(steps), np.concatenate(looked_at)
    classes = {name: np.concatenate(values) for name, values in chosen_classes.items()}
    alike = {**classes, "litert": classes["litert"][compared]}
    top1, compared_top1 = {}, {}
    if labels is not None:
        compared_top1 = {name: float((c == labels[compared]).mean()) for name, c in alike.items()}
        top1 = compared_top1 if compared.all() else {"litert": float((classes["litert"] == labels).mean())}
    return Verification(
        count,
        len(differences),
        float((differences == 0).mean()),
        float(differences.max()),
        float((alike["keras"] == alike["litert"]).mean()),
        top1,
        compared_top1,
        not is_packed(graph),
    )


def _chosen(count: int, limit: int) -> np.ndarray:
    """bool (count,): which images are compared, `limit` of them."""
    found = np.zeros(count, bool)
    found[np.random.default_rng(0).permutation(count)[:limit]] = True
    return found


@dataclasses.dataclass(frozen=True)
class KernelAgreement:
    """How far the integers of some kernels of LiteRT are from those of the reference; fields as in `Verification`."""

    kernels: str
    images: int
    identical: float
    largest_difference: float
    same_class: float

    def __str__(self) -> str:
        return (
            f"{self.kernels} kernels, {self.images} images: {self.identical:.2%} identical, largest difference "
            f"{self.largest_difference:g} steps, the same class in {self.same_class:.2%}"
        )


def agreements(
    graph: IntGraph, blob: bytes, pixels: np.ndarray, threads: int = 1, update: Callable[[float], object] | None = None
) -> list[KernelAgreement]:
    """Measured and not promised: an `KernelAgreement` for each of LiteRT's kernels on CPUs.

    Args:
        graph: `IntGraph`. blob: `write(graph)`. pixels: integers of its input, (n, height, width, channels).
        update: None, or called with the share that is done, for progress.
    """
    expected = reference.run(graph, pixels).reshape(len(pixels), -1)
    step = 1.0 if graph.tensors[graph.output].dtype != "float32" else _last_scale(graph)
    found = []
    for kernels in KERNELS:
        computed = Runtime(blob, threads, kernels).run(pixels).reshape(expected.shape)
        distance = np.abs(computed.astype(np.float64) - expected).max(axis=1) / step
        same = (computed.argmax(axis=1) == expected.argmax(axis=1)).mean()
        found.append(
            KernelAgreement(kernels, len(pixels), float((distance == 0).mean()), float(distance.max()), float(same))
        )
        if update is not None:
            update(len(found) / len(KERNELS))
    return found


def _last_scale(graph: IntGraph) -> np.float32:
    last = graph.producer(graph.output)
    assert last is not None
    return graph.tensors[last.inputs[0]].scale[0]
