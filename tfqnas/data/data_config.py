"""The settings of a data set. A command has a flag for each field."""

import dataclasses
import os

from tfqnas.settings import Settings, setting

# Sources of images. The first two are names of data sets.
DIGITS, PHOTOS, FOLDER, TFDS = "digits", "photos", "a folder of images", "a data set of TFDS"


@dataclasses.dataclass(frozen=True)
class DataConfig(Settings):
    """A data set, its splits, and the crop of its test images."""

    dataset: str = setting(
        "digits", "digits, a TFDS name (fashion_mnist, cifar10, ...), or a folder with a sub-folder for each class"
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
        "share of each class kept for testing, in a folder without a test sub-folder",
        above=0,
        below=1,
        only={"source": (FOLDER,)},
    )
    max_bad_images: int = setting(
        0,
        "largest number of unreadable images in a folder that are listed and skipped",
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
        """The source of the images, one of the texts above."""
        if self.dataset in (DIGITS, PHOTOS):
            return self.dataset
        is_path = os.path.isdir(self.dataset) or self.dataset.startswith((".", "~", os.sep))
        return FOLDER if is_path else TFDS
