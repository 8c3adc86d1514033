"""Compares a Keras model, its `IntGraph` in numpy, and its file in LiteRT with each other on real images."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tflite_export import reference
from tflite_export.int_graph import IntGraph, is_packed, pixels_of
from tflite_export.runtime import KERNELS, Runtime
from tfqnas.errors import UserError
from tfqnas.tasks.base import Task, listed, number_of, taken
from tfqnas.tasks.classification import Classification


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    Args:
        images: number of images that LiteRT computed.
        compared: number of images that the Keras model and the reference computed too.
        identical: fraction of the compared images for which reference and LiteRT give identical integers.
        largest_difference: largest difference between these two, in steps of the output.
        alike: share of the predictions on the compared images that Keras model and LiteRT have in common.
        scores: scores of "litert", and of "keras" and "reference" if they computed all images; empty without targets.
            Of a task that compares with another model they are those against the Keras model.
        compared_scores: scores of all three on the compared images.
        exact: whether identical integers are expected. Kernels for packed weights round differently.
        task: what the outputs are for.
        by_output: the score of LiteRT for each of several outputs, by name, if the task has one.
    """

    images: int
    compared: int
    identical: float
    largest_difference: float
    alike: float
    scores: dict[str, float]
    compared_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    exact: bool = True
    task: Task = dataclasses.field(default_factory=Classification)
    by_output: dict[str, float] = dataclasses.field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The scores and the numbers of images, JSON-able for the metadata of the file."""
        found: dict[str, Any] = {**self.scores, "images": self.images}
        if self.compared < self.images:
            found["compared"] = {**self.compared_scores, "images": self.compared}
        return found

    def problem(self, max_drop: float | None = None) -> str | None:
        """Why the file is not acceptable, or None.

        Args:
            max_drop: largest accepted loss of the score, in the unit of the task's `Drop`; None for its default.
        """
        if self.exact and self.identical < 1:
            return (
                f"LiteRT and the reference differ in {1 - self.identical:.2%} of {self.compared} images, by up to "
                f"{self.largest_difference:g} steps; expected the same integers"
            )
        if self.task.drop is None or "keras" not in self.scores:
            return None
        before, after = self.scores["keras"], self.scores["litert"]
        allowed = self.task.drop.default if max_drop is None else max_drop
        lost, text = self.task.lost(before, after)
        if lost > allowed:
            return (
                f"{self.task.title} falls by {text}, from {self.task.shown(before)} to {self.task.shown(after)}; "
                f"`{self.task.drop.name}` allows {allowed:g}. `explain` shows where, another `calibration` or more "
                "`calibration_images` may help"
            )
        return None

    def __str__(self) -> str:
        lines = [
            f"{self.compared} images: reference and LiteRT identical in {self.identical:.2%} of them, largest "
            f"difference {self.largest_difference:g} steps",
            f"the same {self.task.prediction} as the Keras model in {self.alike:.2%}",
        ]
        if self.scores:
            values = ", ".join(f"{name} {self.task.shown(value)}" for name, value in self.scores.items())
            lines.append(f"{self.task.title}: {values}")
        if self.by_output:
            values = ", ".join(f"{name} {self.task.shown(value)}" for name, value in self.by_output.items())
            lines.append(f"{self.task.title}, each output of litert: {values}")
        return "\n".join(lines)


def verify(
    model: Callable[..., Any],
    graph: IntGraph,
    blob: bytes,
    images: np.ndarray | Iterable[Any],
    targets: np.ndarray | None = None,
    threads: int = 1,
    limit: int | None = None,
    batch_size: int = 64,
    update: Callable[[int], object] | None = None,
    task: Task | None = None,
    count: int | None = None,
) -> Verification:
    """Compares the Keras model, the reference and LiteRT.

    Args:
        model: the `keras.Model`.
        graph: `lower(model, ...)`.
        blob: `write(graph)`.
        images: normalised, float32 (n, height, width, channels), or an iterable of such batches, or of pairs of such a
            batch and its targets. For several inputs a batch is a list of arrays, and so are `images`.
        targets: (n, ...), for scores, such as int labels (n,), where `images` has no pairs.
        threads: number of CPU threads for LiteRT.
        limit: number of images for the model and the reference, which take 20 times as long as LiteRT; None for all.
            With targets or `count` the images are drawn at random with a fixed seed, else they are the first.
        batch_size: number of images that are computed at a time.
        update: called with the number of images done.
        task: what the outputs are for, by default classification.
        count: number of images, if `targets` do not say it.
    """
    task, runtime = task or Classification(), Runtime(blob, threads)
    number = count if targets is None else len(targets)
    chosen = None if number is None or limit is None else _chosen(number, limit)
    steps, alike, looked_at = [], [], []
    tallies: dict[str, list[np.ndarray]] = {"keras": [], "reference": [], "litert": []}
    done = 0
    for x, y in _batches(images, targets, batch_size, len(graph.inputs) > 1):
        pixels = pixels_of(graph, x)
        integers = listed(runtime.run(pixels))
        of_file = _values(graph, integers)
        places = np.arange(done, done + number_of(x))
        some = places < (np.inf if limit is None else limit) if chosen is None else chosen[places]
        if not task.by_reference and y is not None:
            tallies["litert"].append(task.tally(_one(of_file), y))
        if some.any():
            expected = listed(reference.run(graph, taken(pixels, some)))
            steps.append(_difference(graph, expected, [part[some] for part in integers]))
            of_keras = [np.asarray(part) for part in listed(model(taken(x, some), training=False))]
            alike.append(task.alike(_one([part[some] for part in of_file]), _one(of_keras)))
            if task.by_reference:
                y_some: Any = _one(of_keras)
                tallies["litert"].append(task.tally(_one([part[some] for part in of_file]), y_some))
            else:
                y_some = None if y is None else y[some]
                if y is not None:
                    tallies["keras"].append(task.tally(_one(of_keras), y_some))
            if y_some is not None:
                tallies["reference"].append(task.tally(_one(_values(graph, expected)), y_some))
        looked_at.append(some)
        done += number_of(x)
        if update is not None:
            update(done)
    differences, compared = np.concatenate(steps), np.concatenate(looked_at)
    found = {name: np.concatenate(values) for name, values in tallies.items() if values}
    of_all = {name: task.total(values) for name, values in found.items()}
    parts = task.by_output(found["litert"]) if "litert" in found and len(graph.outputs) > 1 else []
    whole = task.by_reference or bool(compared.all())
    if not whole and found:
        of_all = {"litert": of_all["litert"]}
        found["litert"] = found["litert"][compared]
    return Verification(
        done,
        len(differences),
        float((differences == 0).mean()),
        float(differences.max()),
        float(np.concatenate(alike).mean()),
        of_all,
        {name: task.total(values) for name, values in found.items()},
        not is_packed(graph),
        task,
        dict(zip((name.split("/")[0] for name in graph.outputs), parts, strict=True)) if parts else {},
    )


def _batches(images: Any, targets: np.ndarray | None, size: int, several: bool) -> Iterator[tuple[Any, Any]]:
    """Batches `(x, y)` of at most `size` images; `y` is None where there are no targets.

    Args:
        several: whether a model has several inputs, so that a list of arrays is one batch.
    """
    done = 0
    whole = isinstance(images, np.ndarray) or (several and isinstance(images, list))
    for batch in [images] if whole else images:
        x, y = batch if isinstance(batch, tuple) else (batch, None)
        if targets is not None:
            y = targets[done : done + number_of(x)]
        for start in range(0, number_of(x), size):
            part = slice(start, start + size)
            yield taken(x, part), None if y is None else y[part]
        done += number_of(x)


def _values(graph: IntGraph, integers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a file as float32."""
    tensors = [graph.tensors[name] for name in graph.outputs]
    return [
        part if tensor.dtype == "float32" else reference.dequantized(tensor, part)
        for tensor, part in zip(tensors, integers, strict=True)
    ]


def _one(outputs: list[np.ndarray]) -> Any:
    """The only output, or the list of several."""
    return outputs[0] if len(outputs) == 1 else outputs


def _difference(graph: IntGraph, expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (n,): the largest difference of the outputs of each image, in steps."""
    largest = []
    for name, a, b in zip(graph.outputs, expected, found, strict=True):
        distance = np.abs(a.astype(np.float64) - b).reshape(len(a), -1).max(axis=1)
        largest.append(distance / _step(graph, name))
    return np.max(largest, axis=0)


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
    alike: float
    task: Task = dataclasses.field(default_factory=Classification)

    def __str__(self) -> str:
        return (
            f"{self.kernels} kernels, {self.images} images: {self.identical:.2%} identical, largest difference "
            f"{self.largest_difference:g} steps, the same {self.task.prediction} in {self.alike:.2%}"
        )


def agreements(
    graph: IntGraph,
    blob: bytes,
    pixels: np.ndarray,
    threads: int = 1,
    update: Callable[[float], object] | None = None,
    task: Task | None = None,
) -> list[KernelAgreement]:
    """Measures the `KernelAgreement` of each of LiteRT's CPU kernels with the reference. Only XNNPACK's is promised.

    Kernels that lack an operation of the file are left out.

    Args:
        graph: `IntGraph`.
        blob: `write(graph)`.
        pixels: integers of the graph's input, (n, height, width, channels).
        threads: number of CPU threads.
        update: called with the fraction of kernels done.
        task: what the outputs are for, by default classification.
    """
    task = task or Classification()
    expected = listed(reference.run(graph, pixels))
    found = []
    for kernels in KERNELS:
        try:
            runtime = Runtime(blob, threads, kernels)
        except UserError:
            if kernels == "xnnpack":
                raise
            continue  # they lack an operation of the file
        computed = listed(runtime.run(pixels))
        distance = _difference(graph, expected, computed)
        same = task.alike(_one(_values(graph, computed)), _one(_values(graph, expected))).mean()
        found.append(
            KernelAgreement(
                kernels, number_of(pixels), float((distance == 0).mean()), float(distance.max()), float(same), task
            )
        )
        if update is not None:
            update(len(found) / len(KERNELS))
    if update is not None:
        update(1.0)
    return found


def _step(graph: IntGraph, name: str) -> float:
    """The step of an output: 1 of integers, and of floats the scale of the integers that they come from."""
    if graph.tensors[name].dtype != "float32":
        return 1.0
    last = graph.producer(name)
    assert last is not None
    return float(graph.tensors[last.inputs[0]].scale[0])
