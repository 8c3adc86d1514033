"""The settings of a float training. `tools/train_float.py` has a flag for each field."""

import dataclasses
from typing import Any

from tfqnas import zoo
from tfqnas.data.data_config import DataConfig
from tfqnas.errors import UserError, did_you_mean
from tfqnas.settings import setting

# What a setting of 0 stands for: in classification, and on photos.
_DEFAULTS = {
    "batch_size": (128, 16),
    "learning_rate": (0.1, 1e-3),
    "steps": (0, 5000),
    "epochs": (5.0, 0.0),
    "batch_statistics": (1.0, 0.4),
}
PHOTOS = "photos"


@dataclasses.dataclass(frozen=True)
class FloatConfig(DataConfig):
    """A float network and its training."""

    dataset: str = setting(
        "digits",
        "digits, a TFDS name (fashion_mnist, ...), a folder with one sub-folder a class; photos for super-resolution",
    )
    net: str = setting("mobilenet_small", f"network: {', '.join(zoo.NAMES)}")
    output: str = setting("", "the .keras file to write; its figures go into a .json file beside it", fixed=False)
    scale: int = setting(2, "super-resolution: how many times larger images become, 2 or 4")
    filters: int = setting(0, "filters of the network (of its first stage); 0: its own default")
    blocks: int = setting(0, "residual blocks (in each stage); 0: the network's own default")
    size: int = setting(0, "classification: height and width that images are scaled to; 0: those of the data set")
    patch: int = setting(32, "super-resolution: height and width of low-resolution patches in pixels")
    steps: int = setting(0, "updates; 0: of photos 5000, else as many as --epochs says")
    epochs: float = setting(0.0, "classification: passes over the training images; 0: 5")
    batch_size: int = setting(0, "images a step; 0: 128, of photos 16")
    learning_rate: float = setting(0.0, "peak learning rate; 0: 0.1 of SGD, on photos 0.001 of Adam")
    warmup: float = setting(0.05, "share of the steps in which the learning rate rises, before the cosine")
    weight_decay: float = setting(1e-4, "classification: L2 decay of kernels")
    batch_statistics: float = setting(
        0.0,
        "share of the steps in which BatchNorm normalises by the batch, before it keeps to its moving statistics, "
        "whose lack of noise super-resolution needs; 0: 1, on photos 0.4",
    )
    label_smoothing: float = setting(0.1, "classification: share of a label's probability spread over all classes")
    flip: bool = setting(False, "classification: mirror half of the images")
    shift: float = setting(0.0, "classification: largest shift of an image, as a share of it")
    seed: int = setting(0, "of weights, batches and augmentation")
    checkpoint_steps: int = setting(250, "steps between checkpoints", fixed=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.net not in zoo.NAMES:
            hint = did_you_mean(self.net, zoo.NAMES)
            raise UserError(f"--net: expected one of {', '.join(zoo.NAMES)}, received {self.net!r}{hint}")
        if (self.dataset == PHOTOS) != self.on_photos:
            expected = PHOTOS if self.on_photos else "a data set with labels, such as fashion_mnist"
            raise UserError(f"--dataset: expected {expected} for {self.net}, received {self.dataset}")
        if self.scale not in (2, 4):
            raise UserError(f"--scale: expected 2 or 4, received {self.scale}")
        if self.steps and self.epochs:
            raise UserError(f"--steps, --epochs: expected one of them, received {self.steps} and {self.epochs}")
        if self.epochs and self.on_photos:
            raise UserError(f"--epochs: expected --steps for photos, received {self.epochs}")
        for name in ("filters", "blocks", "size", "steps", "epochs", "batch_size", "learning_rate", "weight_decay"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name}: expected at least 0, received {getattr(self, name)}")
        for name in ("patch", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name}: expected at least 1, received {getattr(self, name)}")
        if not 0 <= self.batch_statistics <= 1:
            raise UserError(f"--batch_statistics: expected a share from 0 to 1, received {self.batch_statistics}")
        for name in ("warmup", "label_smoothing", "shift"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}: expected a share from 0 to below 1, received {getattr(self, name)}")

    @property
    def on_photos(self) -> bool:
        """Whether the network is one of super-resolution."""
        return self.net in zoo.SUPER_RESOLUTION

    def value(self, name: str) -> Any:
        """A setting, or what its 0 stands for."""
        own = getattr(self, name)
        if name in ("steps", "epochs") and (self.steps or self.epochs):
            return own
        return own or _DEFAULTS[name][self.on_photos]
