"""Reads image files as arrays."""

import pathlib

import numpy as np
import PIL.Image


def read_image(path: str | pathlib.Path, channels: int = 3) -> np.ndarray:
    """An image file as uint8 (height, width, channels), with 1 channel for grey and 3 for RGB.

    Raises:
        OSError: the file cannot be read, or is not an image.
    """
    with PIL.Image.open(path) as image:
        array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., np.newaxis] if channels == 1 else array
