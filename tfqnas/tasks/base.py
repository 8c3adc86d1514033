"""What a task is, the examples of a task, and the registry of tasks."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from tfqnas.errors import NotFiniteError, UserError, did_you_mean
from tfqnas.tasks.registry import TASKS

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tfqnas.data.data_config import DataConfig

# Outputs of a model as numpy arrays (n, ...): one, or a list of several in the model's order.
Outputs = Any
# Images at once where outputs are computed.
BATCH = 64


class Drop(NamedTuple):
    """The setting that says how far a file's score may lie below that of its Keras model.

    Attributes:
        name: of the setting.
        default: its value, in points where scores are shares, else in the unit of the score.
        help: a line that explains it.
    """

    name: str
    default: float
    help: str


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What the outputs of a model are for.

    A score is measured in two steps. `tally` gives a few numbers for each image. From these follow the score of each
    image (`score`) and that of a set (`total`), which need not be the mean of the former.

    Attributes:
        name: the name of the task in settings.
        metric: the name of the score. A higher one is better.
        title: the score in words.
        prediction: what `alike` counts, such as "class".
        words: what stands behind a score in a sentence, such as "mean IoU"; "" where "of the images" says enough.
        unit: "%" for a share, which `shown` prints as a percentage, or "dB".
        drop: `Drop`, or None where the score is itself a comparison with another model.
        by_reference: whether the score compares with the outputs of another model instead of targets.
        search_loss: the name of the loss of a post-training search, one of `tfqnas.dqss.losses.of_name`.
        makes_images: whether the outputs are images, `(x - 128) / 128`.
        batch_statistics: whether BatchNorm normalises by the batch in training, or by its moving statistics.
        probabilities: whether the outputs are those of a softmax or a sigmoid.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    title: ClassVar[str]
    prediction: ClassVar[str]
    words: ClassVar[str] = ""
    unit: ClassVar[str] = "%"
    drop: ClassVar[Drop | None] = None
    by_reference: ClassVar[bool] = False
    search_loss: ClassVar[str] = "mse"
    makes_images: ClassVar[bool] = False
    batch_statistics: ClassVar[bool] = True

    probabilities: bool = False

    # Which models

    @classmethod
    @abc.abstractmethod
    def suits(cls, inputs: list[tuple[int | None, ...]], outputs: list[tuple[int | None, ...]], photos: bool) -> bool:
        """Whether this is what a model is most likely for. At most one task says so.

        Args:
            inputs, outputs: shapes of the model's tensors without the batch.
            photos: whether the data are photos without labels.
        """

    @classmethod
    @abc.abstractmethod
    def examples(
        cls, model: keras.Model, config: DataConfig, say: Callable[[str], None] = print, **known: Any
    ) -> Examples:
        """The task of a model with the data that `config` names.

        Args:
            model: Keras model.
            config: `DataConfig`.
            say: called with lines for the user.
            known: what else is known, of which each task takes what it needs: "class_names" (in the model's order),
                "score" (see `SuperResolution`), "ignore" (see `Segmentation`).

        Raises:
            UserError: the model or the data do not suit the task.
        """

    # The score

    @abc.abstractmethod
    def tally(self, outputs: Outputs, targets: Any) -> np.ndarray:
        """float64 (n, k): what each image adds to the score.

        Args:
            outputs: float32 or integers (n, ...), or a list of these for several outputs.
            targets: (n, ...), as the task describes them; the outputs of another model with `by_reference`.
        """

    def score(self, tally: np.ndarray) -> np.ndarray:
        """float64 (n,): the score of each image."""
        return tally[:, 0]

    def total(self, tally: np.ndarray) -> float:
        """The score of all images, by default the mean."""
        return float(np.mean(self.score(tally)))

    def by_output(self, tally: np.ndarray) -> list[float]:
        """The score of a set for each output, or an empty list if the outputs have no scores of their own."""
        return []

    @abc.abstractmethod
    def alike(self, outputs: Outputs, reference: Outputs) -> np.ndarray:
        """float64 (n,), from 0 to 1: which share of each image's predictions is the same as in `reference`."""

    def compared(self, outputs: Outputs, reference: Outputs) -> dict[str, np.ndarray]:
        """`{name: float64 (n,)}`: how near each image's outputs are to those of another model."""
        return {"agreement": self.alike(outputs, reference)}

    def shown(self, value: float) -> str:
        """A score as text, such as "87.25%" or "31.20 dB"."""
        return f"{value:.2%}" if self.unit == "%" else f"{value:.2f} {self.unit}"

    def lost(self, before: float, after: float) -> tuple[float, str]:
        """`(amount, text)`: how far a score falls, in points of a share or else in the unit of the score."""
        points = self.unit == "%"
        lost = (before - after) * (100 if points else 1)
        return lost, f"{lost:.2f} points" if points else f"{lost:.3f} {self.unit}"

    # Training

    @abc.abstractmethod
    def loss(self, y: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """The loss of a batch of outputs, a float32 scalar."""

    def distance(self, y: Any, target: Any) -> tf.Tensor:
        """The loss against the outputs of a teacher, a float32 scalar: the mean over the outputs of `losses.mse`."""
        from tfqnas.tasks.losses import mse

        pairs = list(zip(listed(y), listed(target), strict=True))
        return sum(mse(*pair) for pair in pairs) / len(pairs)

    def keras_loss(self) -> keras.losses.Loss:
        """`loss` for Keras' `compile`."""
        from tfqnas.tasks.in_keras import TaskLoss

        return TaskLoss(self.name, dataclasses.asdict(self))

    def keras_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics for Keras' `compile`, of which the first one is the score; an empty list where Keras has none."""
        return []


class Examples(abc.ABC):
    """Images of a task with their targets, in a training and a test part.

    Attributes:
        task: `Task`.
        digest: identifies the training images where they are known by name, or "".
        unread: lists of settings that have no effect, each with the reason and where they have one.
    """

    task: Task
    digest: str = ""
    unread: ClassVar[list[tuple[list[str], str, str]]] = []

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Number of images of "train" or "test"."""

    @abc.abstractmethod
    def calibration(self, count: int, seed: int = 0) -> np.ndarray:
        """At most `count` training images without augmentation, float32 (n, height, width, channels)."""

    @abc.abstractmethod
    def held_out(self, count: int, seed: int = 0) -> tuple[Self, np.ndarray, np.ndarray]:
        """`(examples, x, y)`: the examples without some of the training images, and these, at most a tenth."""

    @abc.abstractmethod
    def batches(
        self, batch_size: int, start: int, stop: int, seed: int = 0, flip: bool = False, shift: float = 0.0
    ) -> Iterable[tuple[tf.Tensor, tf.Tensor]]:
        """Batches of images and targets of the steps from `start` to `stop`, each a function of seed and step."""

    @abc.abstractmethod
    def pairs(self, split: str = "test", limit: int | None = None, size: int = BATCH) -> Iterator[tuple[Any, Any]]:
        """Batches `(x, y)` of a split in order: float32 images, and targets or None.

        Args:
            split: "train" or "test".
            limit: a fixed random choice of so many images; None for all.
            size: images in a batch.
        """

    def evaluate(
        self, model: keras.Model, reference: keras.Model | None = None, split: str = "test"
    ) -> dict[str, float]:
        """`{name: value}` on a split: the score, and with a `reference` model how near the outputs are to its own.

        Raises:
            NotFiniteError: an output is not finite.
        """
        task, tallies, compared = self.task, [], []
        for x, y in self.pairs(split):
            outputs = outputs_of(model, x)
            other = None if reference is None else outputs_of(reference, x)
            if task.by_reference or y is None:
                y = other if task.by_reference else None
            if y is not None:
                tallies.append(task.tally(outputs, y))
            if other is not None:
                compared.append(task.compared(outputs, other))
        found = {task.metric: task.total(np.concatenate(tallies))} if tallies else {}
        names = compared[0] if compared else {}
        return found | {name: float(np.mean(np.concatenate([one[name] for one in compared]))) for name in names}


def kind_of(model: keras.Model, name: str = "", photos: bool = False) -> type[Task]:
    """The class of a model's task.

    Args:
        model: Keras model.
        name: a name in `TASKS`, or "" for what the shapes of inputs and outputs suggest.
        photos: whether the data are photos without labels.

    Raises:
        UserError: the name is unknown, or the shapes suggest nothing.
    """
    if name:
        if name not in TASKS:
            expected = ", ".join(sorted(TASKS))
            raise UserError(f"`task`: expected one of {expected}, received {name!r}{did_you_mean(name, TASKS)}")
        return TASKS[name]
    inputs, outputs = shapes_of(model)
    for kind in TASKS.values():
        if kind.suits(inputs, outputs, photos):
            return kind
    raise UserError(f"`task`: expected one of {', '.join(sorted(TASKS))}, since {model.name} makes {outputs}")


def shapes_of(model: keras.Model) -> tuple[list[tuple[int | None, ...]], list[tuple[int | None, ...]]]:
    """The shapes of a model's inputs and outputs, without the batch."""
    inputs, outputs = ([tuple(tensor.shape[1:]) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    return inputs, outputs


def listed(y: Any) -> list[Any]:
    """The outputs of a model as a list in the order of `model.outputs`: of a dictionary Keras sorts the names."""
    if isinstance(y, dict):
        return [y[name] for name in sorted(y)]
    return list(y) if isinstance(y, list | tuple) else [y]


def gives_probabilities(model: keras.Model, activations: Collection[str] = ("softmax",)) -> bool:
    """Whether a model ends with one of these activations, or with a layer Softmax."""
    last = model.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return type(last).__name__ == "Softmax" or activation in activations


def outputs_of(model: keras.Model, x: Any) -> Outputs:
    """The outputs of a Keras model for a batch as numpy arrays, called eagerly.

    Raises:
        NotFiniteError: a value is not finite.
    """
    found = [np.asarray(y) for y in listed(model(x, training=False))]
    if not all(np.isfinite(y).all() for y in found):
        raise NotFiniteError(
            f"{model.name}: some outputs are not finite, so it has no score: its values overflow, train it with a "
            "lower learning rate"
        )
    return found if len(found) > 1 else found[0]


def taken(x: Any, numbers: Any) -> Any:
    """The examples with these numbers, or of a slice, of an array, or of a list of arrays for several inputs."""
    return [part[numbers] for part in x] if isinstance(x, list | tuple) else x[numbers]


def number_of(x: Any) -> int:
    """The number of examples in an array, or in a list of arrays for several inputs."""
    return len(x[0] if isinstance(x, list | tuple) else x)


def chosen(count: int, limit: int | None) -> np.ndarray:
    """int (n,): the numbers of at most `limit` of `count` images, always the same random choice; all in their order."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.random.default_rng(0).permutation(count)[:limit]
