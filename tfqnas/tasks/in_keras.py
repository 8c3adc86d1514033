"""Losses and metrics of tasks as Keras saves them. Importing this registers them for `keras.saving.load_model`."""

from typing import Any

import keras
import tensorflow as tf

from tfqnas.tasks.losses import of_classes
from tfqnas.tasks.registry import TASKS


@keras.saving.register_keras_serializable("tfqnas")
class TaskLoss(keras.losses.Loss):
    """The loss of a task.

    Args:
        task: name of the task.
        fields: the fields of its dataclass.
        name, reduction, dtype: those of Keras. The loss is a mean over the batch already.
    """

    def __init__(self, task: str, fields: dict[str, Any], name: str = "loss", **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.fields = dict(fields)
        self.task = TASKS[task](**self.fields)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return self.task.loss(y_pred, y_true)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "task": self.task.name, "fields": self.fields}


@keras.saving.register_keras_serializable("tfqnas")
class PixelIoU(keras.metrics.MeanIoU):
    """The mean IoU of segmentation over all images since the last reset.

    Args:
        classes, probabilities, ignore: those of `Segmentation`.
        name, dtype: those of Keras.
    """

    def __init__(
        self, classes: int, probabilities: bool = False, ignore: int = 255, name: str = "miou", dtype: Any = None
    ) -> None:
        super().__init__(classes, name=name, dtype=dtype, ignore_class=ignore)
        self.settings = {"classes": classes, "probabilities": probabilities, "ignore": ignore}

    def update_state(self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Any = None) -> Any:
        channels = of_classes(y_pred, bool(self.settings["probabilities"]))
        return super().update_state(y_true, tf.argmax(channels, -1), sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **self.settings}
