"""Reads image files as people see them: upright, with 8 bits for each value, and on white where they are transparent.

This is the only reader of image files. Training, evaluation, calibration and prediction all get their pixels from it,
most of them by way of `tfqnas.data.images.decode`.
"""

import collections
import io
import pathlib
import threading
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps

from tfqnas.files import read_regular

# Formats by the names of Pillow. A few that it knows besides would start other programs (EPS) or are no pictures.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
READABLE = (".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".jp2")
# These are reported rather than left out without a word.
UNREADABLE = (".heic", ".heif", ".jxl", ".svg", ".dng", ".cr2", ".nef", ".arw")
# Pixels of an image. A decoded one takes 600 MB; the largest pictures of phones have 199.8 million.
LARGEST_PIXELS = 200_000_000
_LARGEST_FILE = 2**30
BACKGROUND = "white"
ORIENTATION = 0x0112  # a tag of EXIF
# What is done to an image beyond decoding it, in the words of the line that says so.
TURNED, ON_BACKGROUND, REDUCED = (
    "turned upright as their EXIF data say",
    f"shown on {BACKGROUND} because of transparency",
    "reduced to 8 bits",
)
_GREY = ("1", "L", "LA", "La", "I", "F")
_opening = threading.Lock()


def content(path: str | pathlib.Path) -> bytes:
    """The content of an image file; raises `OSError` or `ValueError` if it is no file or too large."""
    return read_regular(path, _LARGEST_FILE)


class Picture(NamedTuple):
    """An image file whose decoding by TensorFlow gives the pixels that people see.

    Attributes:
        file: a JPEG, PNG or BMP.
        orientation: how a JPEG is still to be turned: 1 to 8, as in EXIF. 1 stands for upright.
    """

    file: bytes
    orientation: int


class Facts(NamedTuple):
    """What the header of an image says, without decoding it.

    Attributes:
        height, width: in pixels, upright.
        channels: 1 for grey or 3.
        changes: what reading does to it, some of `TURNED`, `ON_BACKGROUND` and `REDUCED`.
    """

    height: int
    width: int
    channels: int
    changes: tuple[str, ...] = ()


def facts(data: bytes) -> Facts:
    """The `Facts` of an image file; raises `ValueError` as `shown` does."""
    image = _opened(data)
    orientation = _orientation(image, data)
    swapped = orientation >= 5 and image.format != "TIFF"  # Pillow itself turns a TIFF
    width, height = image.size[::-1] if swapped else image.size
    deep = image.mode.startswith(("I", "F")) or (image.format == "PNG" and data[24] == 16)
    changes = {TURNED: orientation > 1, ON_BACKGROUND: image.has_transparency_data, REDUCED: deep}
    grey = image.mode.startswith(_GREY)
    return Facts(height, width, 1 if grey else 3, tuple(what for what, holds in changes.items() if holds))


def changes_in(images: Collection[Facts]) -> str:
    """A line that says how many images are read with changes, and which; "" where there are none."""
    counts = collections.Counter(what for image in images for what in image.changes)
    if not counts:
        return ""
    number = sum(bool(image.changes) for image in images)
    listed = ", ".join(f"{count} {what}" for what, count in counts.items())
    return f"of {len(images)} images {number} are not shown as they are stored: {listed}"


def shown(data: bytes, channels: int) -> Picture:
    """The `Picture` of an image file.

    JPEG and PNG pass as they are where TensorFlow decodes them rightly. Other files are decoded here.

    Args:
        data: content of the file, of one of `FORMATS`. Of several frames the first one counts.
        channels: 1 for grey or 3 for RGB.

    Raises:
        ValueError: the file is no image, is damaged, is larger than `LARGEST_PIXELS`, or has values that have no
            meaning as brightness. The message says which.
    """
    image = _opened(data)
    orientation = _orientation(image, data)
    if image.format in ("JPEG", "MPO") and not (image.mode == "CMYK" and channels == 1):
        return Picture(data, orientation)
    if image.format == "PNG" and orientation == 1 and not image.has_transparency_data:
        return Picture(data, 1)
    file, pixels = io.BytesIO(), _pixels(image, channels)
    # Without compression. BMP takes a tenth of the time of PNG, but TensorFlow does not decode a grey one.
    if channels == 1:
        pixels.save(file, "PNG", compress_level=0)
    else:
        pixels.save(file, "BMP")
    return Picture(file.getvalue(), 1)


def read_image(path: str | pathlib.Path, channels: int = 3) -> np.ndarray:
    """An image file as uint8 (height, width, channels), decoded by Pillow.

    The values of a JPEG differ from those of TensorFlow's decoder by a few units, those of other formats do not.

    Raises:
        OSError: the file cannot be read. ValueError: as in `shown`.
    """
    array = np.asarray(_pixels(_opened(content(path)), channels))
    return array[..., np.newaxis] if channels == 1 else array


def _opened(data: bytes) -> PIL.Image.Image:
    """The image with its header read, and nothing decoded."""
    if not data:
        raise ValueError("the file is empty")
    PIL.Image.preinit()
    if not set(FORMATS) <= set(PIL.Image.OPEN):
        PIL.Image.init()
    known = [name for name in FORMATS if name in PIL.Image.OPEN]
    with _opening:  # Pillow warns from the half of its own limit on; the limit here takes its place
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            image = PIL.Image.open(io.BytesIO(data), formats=known)
        except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
            reason = "" if isinstance(error, PIL.UnidentifiedImageError) else f" ({error})"
            raise ValueError(f"not an image that can be decoded{reason}") from None
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit
    if image.width * image.height > LARGEST_PIXELS:
        raise ValueError(
            f"{image.width} x {image.height} pixels, expected at most {LARGEST_PIXELS / 1e6:.0f} million in all"
        )
    return image


def _orientation(image: PIL.Image.Image, data: bytes) -> int:
    """The orientation of EXIF, from 1 to 8; 1 where there is none."""
    if image.format == "PNG" and b"eXIf" not in data:  # Pillow would decode the whole file to look for it
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's parser of EXIF raises a dozen kinds of errors. Viewers ignore damaged EXIF data too.
        return 1
    return value if value in range(1, 9) else 1


def _pixels(image: PIL.Image.Image, channels: int) -> PIL.Image.Image:
    """The decoded image, upright, of mode L or RGB."""
    mode = "L" if channels == 1 else "RGB"
    try:
        image.load()
        orientation = image.getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(f"not an image that can be decoded ({error})") from None
    transparent = image.has_transparency_data
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image)
        upper = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        flat = PIL.Image.fromarray(_eight_bits(deep, upper))
        if transparent and isinstance(key := image.info.get("transparency"), int):
            flat.paste(255, mask=PIL.Image.fromarray(deep == key))
        image, transparent = flat, False
    if transparent:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, BACKGROUND), image)
    image = image.convert(mode)
    image.getexif()[ORIENTATION] = orientation
    return PIL.ImageOps.exif_transpose(image)


def _eight_bits(values: np.ndarray, upper: bool) -> np.ndarray:
    """uint8 of whole numbers or floats (height, width). `upper` takes the upper byte of 16 bits, as decoders do."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):  # also for NaN
            raise ValueError(f"values from {low:g} to {high:g}, expected 0 to 1 or 0 to 255")
        return np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
    if not (low >= 0 and high <= (65535 if upper else 255)):
        raise ValueError(f"values from {low} to {high}, expected {'16 bits' if upper else '0 to 255'}")
    return (values >> 8 if upper else values).astype(np.uint8)
