"""The settings of a float training. `tfqnas train-float` has a flag for each field."""

import dataclasses
from typing import Any

from tfqnas import zoo
from tfqnas.data.data_config import FOLDER, PHOTOS, DataConfig
from tfqnas.errors import SettingError
from tfqnas.settings import setting, share

# Names of tasks.
CLASSIFICATION, SUPER_RESOLUTION, SEGMENTATION = "classification", "super_resolution", "segmentation"
# Values that a setting of 0 stands for, by the name of the task.
_DEFAULTS: dict[str, dict[str, float]] = {
    "batch_size": {CLASSIFICATION: 128, SUPER_RESOLUTION: 16, SEGMENTATION: 16},
    "learning_rate": {CLASSIFICATION: 0.1, SUPER_RESOLUTION: 1e-3, SEGMENTATION: 0.01},
    "steps": {CLASSIFICATION: 0, SUPER_RESOLUTION: 5000, SEGMENTATION: 0},
    "epochs": {CLASSIFICATION: 5.0, SUPER_RESOLUTION: 0.0, SEGMENTATION: 20.0},
    "batch_statistics": {CLASSIFICATION: 1.0, SUPER_RESOLUTION: 0.4, SEGMENTATION: 1.0},
}
# Tasks whose targets are known for each image.
_TRAINED_BY_EPOCHS = (CLASSIFICATION, SEGMENTATION)


@dataclasses.dataclass(frozen=True)
class FloatConfig(DataConfig):
    """A float network and its training."""

    dataset: str = setting(
        "digits",
        "digits, a TFDS name (fashion_mnist, ...), or a folder with a sub-folder for each class; photos for "
        "super-resolution; for segmentation a folder with the sub-folders images and masks",
    )
    net: str = setting("mobilenet_small", f"network: {', '.join(zoo.NAMES)}", choices=zoo.NAMES)
    output: str = setting("", "the .keras file to write, with its results in a .json file beside it", fixed=False)
    scale: int = setting(
        2, "super-resolution: factor by which images are enlarged, 2 or 4", only={"task": (SUPER_RESOLUTION,)}
    )
    filters: int = setting(0, "filters of the network (of its first stage); 0: its own default", at_least=0)
    blocks: int = setting(0, "residual blocks (in each stage); 0: the network's own default", at_least=0)
    size: int = setting(
        0,
        "height and width that images are scaled to; 0: those of the data set",
        at_least=0,
        only={"task": _TRAINED_BY_EPOCHS},
    )
    patch: int = setting(
        32,
        "super-resolution: height and width of low-resolution patches in pixels",
        at_least=1,
        only={"task": (SUPER_RESOLUTION,)},
    )
    steps: int = setting(0, "number of updates; 0: 5000 on photos, else given by `epochs`", at_least=0)
    epochs: float = setting(
        0.0, "passes over the training images; 0: 5, in segmentation 20", at_least=0, only={"task": _TRAINED_BY_EPOCHS}
    )
    batch_size: int = setting(0, "images a step; 0: 128, on photos and masks 16", at_least=0)
    learning_rate: float = setting(
        0.0, "peak learning rate; 0: 0.1 with SGD, with Adam 0.001 on photos and 0.01 on masks", at_least=0
    )
    weight_decay: float = setting(
        1e-4, "classification: L2 decay of kernels", at_least=0, only={"task": (CLASSIFICATION,)}
    )
    batch_statistics: float = share(
        0.0,
        "share of the steps in which BatchNorm normalises by the batch; then it uses its moving statistics, since "
        "super-resolution suffers from noise; 0: 1, on photos 0.4",
    )
    label_smoothing: float = setting(
        0.1,
        "classification: share of a label's probability spread over all classes",
        at_least=0,
        below=1,
        only={"task": (CLASSIFICATION,)},
    )
    flip: bool = setting(False, "mirror half of the images", only={"task": _TRAINED_BY_EPOCHS})
    shift: float = setting(
        0.0, "largest shift of an image, as a share of it", at_least=0, below=1, only={"task": _TRAINED_BY_EPOCHS}
    )
    ignore: int = setting(
        255,
        "segmentation: value of the pixels of a mask that do not count; -1: all count",
        at_least=-1,
        at_most=255,
        only={"task": (SEGMENTATION,)},
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", at_least=0)
    checkpoint_steps: int = setting(250, "steps between checkpoints", fixed=False, at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dataset == PHOTOS) != self.on_photos:
            expected = PHOTOS if self.on_photos else "a data set with labels, such as fashion_mnist,"
            raise SettingError("dataset", f"{expected} for {self.net}", self.dataset)
        if self.task == SEGMENTATION and self.source != FOLDER:
            raise SettingError("dataset", f"a folder of images and masks for {self.net}", self.dataset)
        if self.scale not in (2, 4):
            raise SettingError("scale", "2 or 4", self.scale)
        if self.steps and self.epochs:
            raise SettingError("epochs", f"0 with `steps={self.steps}`", self.epochs)
        if self.epochs and self.on_photos:
            raise SettingError("epochs", "`steps` for photos", self.epochs)

    @property
    def task(self) -> str:
        """The name of the network's task."""
        if self.net in zoo.SEGMENTATION:
            return SEGMENTATION
        return SUPER_RESOLUTION if self.on_photos else CLASSIFICATION

    @property
    def on_photos(self) -> bool:
        """Whether the network is for super-resolution."""
        return self.net in zoo.SUPER_RESOLUTION

    def value(self, name: str) -> Any:
        """The value of a setting, with 0 replaced by the value that it stands for."""
        own = getattr(self, name)
        if name in ("steps", "epochs") and (self.steps or self.epochs):
            return own
        return own or _DEFAULTS[name][self.task]
