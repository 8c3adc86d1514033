"""Twenty photographs with ImageNet labels from the package foolbox, cropped like EfficientNet's test images."""

import re

import numpy as np
import PIL.Image

from tfqnas.data.packages import file_of
from tfqnas.errors import UserError

COUNT, SIZE = 20, 224
# The fraction of the shorter side that the crop keeps, 224 of 256 pixels.
CROP = 0.875


def labelled_photos() -> tuple[np.ndarray, np.ndarray]:
    """The photographs and their labels.

    Returns:
        `(images, labels)`: uint8 (20, 224, 224, 3), RGB, and int64 (20,) from 0 to 999.

    Raises:
        UserError: foolbox is not installed, or has other files.
    """
    found, directory = {}, file_of("foolbox", "data")
    for path in directory.glob("imagenet_*.jpg"):
        if match := re.fullmatch(r"imagenet_(\d+)_(\d+)", path.stem):
            found[int(match[1])] = path, int(match[2])
    if sorted(found) != list(range(COUNT)):
        raise UserError(f"{directory}: expected {COUNT} photographs imagenet_NUMBER_LABEL.jpg, found {len(found)}")
    images, labels = [], []
    for number in range(COUNT):
        path, label = found[number]
        with PIL.Image.open(path) as image:
            images.append(np.asarray(_cut(image.convert("RGB"))))
        labels.append(label)
    return np.stack(images), np.array(labels)


def _cut(image: PIL.Image.Image) -> PIL.Image.Image:
    """The central square of an image, scaled by bicubic interpolation with antialiasing."""
    side = round(CROP * min(image.size))
    left, top = ((length - side) // 2 for length in image.size)
    return image.resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
