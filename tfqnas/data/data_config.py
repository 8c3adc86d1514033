"""Which images: the settings that name a data set. A command has a flag for each field."""

import dataclasses
import os

from tfqnas.settings import Settings, setting

# Where images come from, in words; the first two are names of data sets.
DIGITS, PHOTOS, FOLDER, TFDS = "digits", "photos", "a folder of images", "a data set of TFDS"


@dataclasses.dataclass(frozen=True)
class DataConfig(Settings):
    """A data set, its splits, and how its test images are cut."""

    dataset: str = setting(
        "digits", "digits, a TFDS name (fashion_mnist, cifar10, ...), or a folder with one sub-folder a class"
    )
    data_dir: str = setting(
        "",
        "directory of prepared TFDS data sets; by default that of TFDS",
        fixed=False,
        only={"source": (TFDS, PHOTOS)},
    )
    train_split: str = setting("train", "TFDS split to train on, slices allowed: train[:80%]", only={"source": (TFDS,)})
    test_split: str = setting("", "TFDS split to test on; by default test, else validation", only={"source": (TFDS,)})
    test_share: float = setting(
        0.2,
        "of a folder without test sub-folder: share of each class kept for testing",
        above=0,
        below=1,
        only={"source": (FOLDER,)},
    )
    max_bad_images: int = setting(
        0,
        "of a folder: images that cannot be read and are skipped, after being listed",
        at_least=0,
        only={"source": (FOLDER,)},
    )
    evaluation_crop: float = setting(
        1.0,
        "share of the shorter side kept by the centre crop of test images; 0.875 is usual for ImageNet",
        above=0,
        at_most=1,
        only={"source": (DIGITS, FOLDER, TFDS)},
    )

    @property
    def source(self) -> str:
        """Where the images come from, in words."""
        if self.dataset in (DIGITS, PHOTOS):
            return self.dataset
        is_path = os.path.isdir(self.dataset) or self.dataset.startswith((".", "~", os.sep))
        return FOLDER if is_path else TFDS
