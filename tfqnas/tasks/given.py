"""Examples that are read by number, and those of arrays that the caller has."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tfqnas.errors import UserError
from tfqnas.tasks.base import BATCH, Examples, Task, chosen, number_of, taken

if TYPE_CHECKING:
    import tensorflow as tf


class Numbered(Examples):
    """Examples of which any can be read by its number.

    Args:
        task: `Task`.
        counts: `{"train": n, "test": m}`, the numbers of examples.
    """

    def __init__(self, task: Task, counts: dict[str, int]) -> None:
        self.task = task
        self.numbers = {split: np.arange(count) for split, count in counts.items()}

    @abc.abstractmethod
    def read(self, split: str, numbers: np.ndarray) -> tuple[Any, Any]:
        """`(x, y)` of the examples of a split with these numbers: float32 (n, ...), and targets or None."""

    def augmented(
        self, x: np.ndarray, y: Any, flip: bool, shift: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, Any]:
        """The examples with random changes; raises `UserError`, since nothing is known of the targets."""
        raise UserError("`flip`, `shift`: expected neither, since these examples have targets of an unknown kind")

    def count(self, split: str) -> int:
        return len(self.numbers[split])

    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        some = np.random.default_rng((seed, 6)).permutation(self.numbers["train"])[:count]
        return self.read("train", some)[0]

    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        order = np.random.default_rng((seed, 9)).permutation(self.numbers["train"])
        count = min(count, len(order) // 10)
        rest = copy.copy(self)
        rest.numbers = {**self.numbers, "train": order[count:]}
        x, y = self.read("train", order[:count])
        return rest, x, np.zeros(len(x), np.int32) if y is None else y

    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
        """Batches of an endless, seeded sequence of epochs; raises `UserError` for fewer images than a batch has."""
        import tensorflow as tf

        numbers = self.numbers["train"]
        each = len(numbers) // batch_size
        if not each:
            raise UserError(f"training images: expected at least a batch of {batch_size}, received {len(numbers)}")
        for step in range(start, stop):
            epoch, place = divmod(step, each)
            order = np.random.default_rng((seed, 3, epoch)).permutation(numbers)
            x, y = self.read("train", order[place * batch_size : (place + 1) * batch_size])
            if flip or shift:
                x, y = self.augmented(x, y, flip, shift, np.random.default_rng((seed, 4, step)))
            yield tf.constant(x), tf.constant(np.zeros(len(x), np.int32) if y is None else y)

    def pairs(self, split: str = "test", limit: int | None = None, size: int = BATCH) -> Iterator[tuple[Any, Any]]:
        numbers = self.numbers[split]
        numbers = numbers[chosen(len(numbers), limit)]
        for first in range(0, len(numbers), size):
            yield self.read(split, numbers[first : first + size])


class Given(Numbered):
    """Examples of arrays.

    Args:
        task: `Task`, which says what the targets are.
        train, test: `(x, y)`: float32 (n, height, width, channels), normalised, or a list of arrays for several inputs;
            and an array of n targets, or None for a task that compares with another model.
    """

    def __init__(self, task: Task, train: tuple[Any, Any], test: tuple[Any, Any]) -> None:
        self._parts = {"train": train, "test": test}
        for split, (x, y) in self._parts.items():
            if y is not None and number_of(x) != len(y):
                raise UserError(f"{split}: expected a target for each of {number_of(x)} images, received {len(y)}")
        super().__init__(task, {split: number_of(x) for split, (x, _) in self._parts.items()})

    def read(self, split: str, numbers: np.ndarray) -> tuple[Any, Any]:
        x, y = self._parts[split]
        return taken(x, numbers), None if y is None else y[numbers]
