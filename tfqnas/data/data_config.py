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
        """The source of the images, one of the texts above. A path ends with a slash, or begins with one, . or ~."""
        if self.dataset in (DIGITS, PHOTOS):
            return self.dataset
        is_path = self.dataset.endswith(os.sep) or self.dataset.startswith((".", "~", os.sep))
        return FOLDER if is_path or os.path.isdir(self.dataset) else TFDS

    @property
    def note(self) -> str:
        """A line on a name that may mean two things, which says what it means here and how to mean the other; or ""."""
        name, is_folder = self.dataset, os.path.isdir(self.dataset)
        if name in (DIGITS, PHOTOS) and is_folder:
            return f"`dataset={name}` is a data set of tfqnas; the folder of that name here is `dataset={name}{os.sep}`"
        if name.rstrip(os.sep) in (DIGITS, PHOTOS) and self.source == FOLDER:
            return f"`dataset={name}` is read as a folder; the data set of tfqnas is `dataset={name.rstrip(os.sep)}`"
        if is_folder and name.isidentifier():
            return f"`dataset={name}` is the folder {os.path.abspath(name)}, not a data set of TFDS"
        return ""
