"""Tasks: what the outputs of a model are for, and how well it does it. Importing this loads no TensorFlow.

    task = tfqnas.tasks.Segmentation(classes=4, ignore=255)
    model.compile("adam", task.keras_loss(), metrics=task.keras_metrics())

A new task is one file here, with a class that registers itself.
"""

import importlib
import pkgutil

from tfqnas.tasks.base import Drop, Examples, Task, kind_of
from tfqnas.tasks.classification import Classification
from tfqnas.tasks.detection import Detection
from tfqnas.tasks.given import Given
from tfqnas.tasks.registry import TASKS, register
from tfqnas.tasks.segmentation import Segmentation
from tfqnas.tasks.settings import TaskConfig, examples_of
from tfqnas.tasks.super_resolution import SuperResolution

for _file in pkgutil.iter_modules(__path__):
    if _file.name != "in_keras":  # which loads Keras
        importlib.import_module(f"{__name__}.{_file.name}")  # each task registers itself

__all__ = [
    "TASKS",
    "Classification",
    "Detection",
    "Drop",
    "Examples",
    "Given",
    "Segmentation",
    "SuperResolution",
    "Task",
    "TaskConfig",
    "examples_of",
    "kind_of",
    "register",
]
