"""The settings of a data set for a model of any task. A command has a flag for each field."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfqnas.data.data_config import FOLDER, PHOTOS, DataConfig
from tfqnas.settings import setting
from tfqnas.tasks.base import Examples, kind_of
from tfqnas.tasks.segmentation import IGNORED

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class TaskConfig(DataConfig):
    """A data set, and what the outputs of the model are for."""

    dataset: str = setting(
        "digits",
        "digits, photos, a TFDS name (fashion_mnist, cifar10, ...), or a folder with a sub-folder for each class, or "
        "with the sub-folders images and masks",
    )
    task: str = setting(
        "",
        "what the outputs are for: classification, detection (raw outputs), segmentation or super_resolution; by "
        "default what their shapes suggest",
    )
    ignore: int = setting(
        IGNORED,
        "segmentation: value of the pixels of a mask that do not count; -1: all count",
        at_least=-1,
        at_most=255,
        only={"source": (FOLDER,)},
    )


def examples_of(model: "keras.Model", config: DataConfig, say: Callable[[str], None] = print, **known: Any) -> Examples:
    """The task of a model with its data.

    Args:
        model: Keras model.
        config: `TaskConfig`, or a `DataConfig` for the task that the shapes of the model suggest.
        say: called with lines for the user.
        known: see `Task.examples`.

    Raises:
        UserError: the model or the data do not suit the task.
    """
    kind = kind_of(model, getattr(config, "task", ""), config.dataset == PHOTOS)
    return kind.examples(model, config, say, ignore=getattr(config, "ignore", IGNORED), **known)
