"""Which images: the settings that name a data set. A tool has a flag for each field."""

import dataclasses

from tfqnas.errors import UserError
from tfqnas.settings import setting


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A data set, its splits, and how its test images are cut."""

    dataset: str = setting(
        "digits", "digits, a TFDS name (fashion_mnist, cifar10, ...), or a folder with one sub-folder a class"
    )
    data_dir: str = setting("", "directory of prepared TFDS data sets; by default that of TFDS", fixed=False)
    train_split: str = setting("train", "TFDS split to train on, slices allowed: train[:80%]")
    test_split: str = setting("", "TFDS split to test on; by default test, else validation")
    test_share: float = setting(0.2, "of a folder without test sub-folder: share of each class kept for testing")
    max_bad_images: int = setting(0, "of a folder: images that cannot be read and are skipped, after being listed")
    evaluation_crop: float = setting(
        1.0, "share of the shorter side kept by the centre crop of test images; 0.875 is usual for ImageNet"
    )

    def __post_init__(self) -> None:
        for name, lowest, highest in (("test_share", 0, 1), ("evaluation_crop", 0, 1.000001)):
            if not lowest < getattr(self, name) < highest:
                raise UserError(f"--{name}: expected a share between 0 and 1, received {getattr(self, name)}")
        if self.max_bad_images < 0:
            raise UserError(f"--max_bad_images: expected at least 0, received {self.max_bad_images}")
