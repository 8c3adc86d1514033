"""Compares a super-resolution model, its `IntGraph` in numpy, and its file in LiteRT on real images."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tflite_export import reference
from tflite_export.int_graph import IntGraph, is_packed, pixels_of
from tflite_export.runtime import Runtime


@dataclasses.dataclass(frozen=True)
class ImageVerification:
    """The result of a comparison.

    Args:
        images: number of images.
        identical: fraction of the images for which reference and LiteRT give identical integers.
        largest_difference: largest difference between these two, in steps of the output.
        quality: mean quality over the images, for "keras" and "litert".
        exact: whether identical integers are expected. Kernels for packed weights round differently.
    """

    images: int
    identical: float
    largest_difference: int
    quality: dict[str, float]
    exact: bool = True

    def problem(self, max_drop: float) -> str | None:
        """Why the file is not acceptable, or None; `max_drop` is in units of the quality."""
        if self.exact and self.identical < 1:
            return (
                f"LiteRT and the reference differ in {1 - self.identical:.2%} of {self.images} images, by up to "
                f"{self.largest_difference} steps; expected the same integers"
            )
        drop = self.quality["keras"] - self.quality["litert"]
        if drop > max_drop:
            return (
                f"PSNR falls by {drop:.3f} dB, from {self.quality['keras']:.2f} to {self.quality['litert']:.2f}; "
                f"{max_drop:g} is allowed"
            )
        return None

    def __str__(self) -> str:
        return (
            f"{self.images} images: reference and LiteRT identical in {self.identical:.2%} of them, largest difference "
            f"{self.largest_difference} steps\nPSNR: "
            + ", ".join(f"{name} {value:.2f} dB" for name, value in self.quality.items())
        )


def verify_images(
    model: Callable[..., Any],
    graph: IntGraph,
    blob: bytes,
    images: np.ndarray,
    targets: np.ndarray | Sequence[np.ndarray],
    quality: Callable[[np.ndarray, np.ndarray], float],
    update: Callable[[int], object] | None = None,
) -> ImageVerification:
    """Compares the Keras model, the reference and LiteRT.

    Args:
        model: the `keras.Model` from normalised images to normalised images.
        graph: `lower(model, ...)`.
        blob: `write(graph)`, with the int8 interface.
        images: normalised, float32 (n, height, width, channels).
        targets: uint8 (n, larger height, larger width, channels).
        quality: function of a uint8 image and its target that returns a number; higher is better.
        update: called with the number of images done.
    """
    runtime, output = Runtime(blob), graph.tensors[graph.output]
    differences: list[int] = []
    found: dict[str, list[float]] = {"keras": [], "litert": []}
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        pixels = pixels_of(graph, image[np.newaxis])
        integers = runtime.run(pixels)
        expected = reference.run(graph, pixels)
        differences.append(int(np.abs(expected.astype(np.int64) - integers).max()))
        of_file = (integers.astype(np.float64) - output.zero_point) * output.scale[0]
        of_keras = np.asarray(model(image[np.newaxis], training=False))
        for name, x in (("keras", of_keras), ("litert", of_file)):
            found[name].append(quality(_pixels(x[0], graph.normalization), target))
        if update is not None:
            update(number + 1)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    same = float(np.mean([difference == 0 for difference in differences]))
    return ImageVerification(len(differences), same, max(differences), means, not is_packed(graph))


def _pixels(x: np.ndarray, normalization: tuple[float, float]) -> np.ndarray:
    mean, divisor = normalization
    return np.clip(np.rint(x * divisor + mean), 0, 255).astype(np.uint8)
