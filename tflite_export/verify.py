"""Compares a Keras model, its `IntGraph` in numpy, and its file in LiteRT with each other on real images."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tflite_export import reference
from tflite_export.int_graph import IntGraph, is_packed, pixels_of
from tflite_export.runtime import KERNELS, Runtime


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    Args:
        images: number of images that LiteRT computed.
        compared: number of images that the Keras model and the reference computed too.
        identical: fraction of the compared images for which reference and LiteRT give identical integers.
        largest_difference: largest difference between these two, in steps of the output.
        same_class: fraction of the compared images for which Keras model and LiteRT choose the same class.
        top1: accuracy of "litert", and of "keras" and "reference" if they computed all images; empty without labels.
        compared_top1: accuracies of all three on the compared images.
        exact: whether identical integers are expected. Kernels for packed weights round differently.
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
        """The top-1 accuracies and the numbers of images, JSON-able for the metadata of the file."""
        found: dict[str, Any] = {**self.top1, "images": self.images}
        if self.compared < self.images:
            found["compared"] = {**self.compared_top1, "images": self.compared}
        return found

    def problem(self, max_accuracy_drop: float = 0.5) -> str | None:
        """Why the file is not acceptable, or None; `max_accuracy_drop` is in percentage points."""
        if self.exact and self.identical < 1:
            return (
                f"LiteRT and the reference differ in {1 - self.identical:.2%} of {self.compared} images, by up to "
                f"{self.largest_difference:g} steps; expected the same integers"
            )
        drop = 100 * (self.top1["keras"] - self.top1["litert"]) if "keras" in self.top1 else 0.0
        if drop > max_accuracy_drop:
            return (
                f"top-1 falls by {drop:.2f} points, from {self.top1['keras']:.2%} to {self.top1['litert']:.2%}; "
                f"`max_accuracy_drop` allows {max_accuracy_drop:g}. `explain` shows where, another `calibration` or "
                "more `calibration_images` may help"
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
    """Compares the Keras model, the reference and LiteRT.

    Args:
        model: the `keras.Model`.
        graph: `lower(model, ...)`.
        blob: `write(graph)`.
        images: normalised, float32 (n, height, width, channels), or an iterable of such batches.
        labels: int (n,), for accuracies.
        threads: number of CPU threads for LiteRT.
        limit: number of images for the model and the reference, which take 20 times as long as LiteRT; None for all.
            With labels the images are drawn at random with a fixed seed, without labels they are the first.
        batch_size: number of images that are computed at a time.
        update: called with the number of images done.
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
    """bool (count,): a fixed random choice of `limit` images to compare."""
    found = np.zeros(count, bool)
    found[np.random.default_rng(0).permutation(count)[:limit]] = True
    return found


@dataclasses.dataclass(frozen=True)
class KernelAgreement:
    """How well some kernels of LiteRT agree with the reference; the fields are as in `Verification`."""

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
    """Measures the `KernelAgreement` of each of LiteRT's CPU kernels with the reference. Only XNNPACK's is promised.

    Args:
        graph: `IntGraph`.
        blob: `write(graph)`.
        pixels: integers of the graph's input, (n, height, width, channels).
        threads: number of CPU threads.
        update: called with the fraction of kernels done.
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
