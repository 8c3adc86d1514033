"""Finds and reads the images of a folder with their masks.

The files are `FOLDER/images/NAME.jpg` and `FOLDER/masks/NAME.png`, with a part kept for testing, or the same two
folders in `FOLDER/train` and `FOLDER/test` (or `val`, `validation`). A mask has a class index for each pixel.
"""

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image

from tfqnas.data.data_config import DataConfig
from tfqnas.data.image_files import READABLE, content, read_image
from tfqnas.errors import UserError

IMAGES, MASKS = "images", "masks"
_TESTS = ("test", "val", "validation")
_LISTED = 3


class Pair(NamedTuple):
    """The files of an image and of its mask, which is None if there are no masks."""

    image: pathlib.Path
    mask: pathlib.Path | None


def find(config: DataConfig, with_masks: bool = True) -> tuple[list[Pair], list[Pair]]:
    """The training and the test pairs of the folder `config.dataset`, sorted by name.

    Without masks these are all images below the folder, or below its parts.

    Raises:
        UserError: there is no such folder, an image has no mask or a mask no image, or there are fewer than two images.
    """
    root, where = pathlib.Path(config.dataset).expanduser(), f"`dataset={config.dataset}`"
    if not root.is_dir():
        raise UserError(f"{where}: expected a folder with {IMAGES} and {MASKS}, there is none")
    tests = [name for name in _TESTS if (root / name).is_dir()]
    if tests and (root / "train").is_dir():
        train, test = (_pairs(root / name, where, with_masks) for name in ("train", tests[0]))
    else:
        found = _pairs(root, where, with_masks)
        order = np.random.default_rng(0).permutation(len(found))
        count = min(len(found) - 1, max(1, round(config.test_share * len(found))))
        train, test = ([found[i] for i in sorted(part)] for part in (order[count:], order[:count]))
    if not train or not test:
        raise UserError(f"{where}: expected at least 2 images, one to train and one to test on")
    return train, test


def _pairs(root: pathlib.Path, where: str, with_masks: bool) -> list[Pair]:
    if not with_masks:
        files = _files(root / IMAGES if (root / IMAGES).is_dir() else root)
        return [Pair(path, None) for path in files.values()]
    if missing := [name for name in (IMAGES, MASKS) if not (root / name).is_dir()]:
        raise UserError(
            f"{where}: expected the folders {IMAGES} and {MASKS} in {root}, there is no {' and no '.join(missing)}"
        )
    images, masks = (_files(root / name) for name in (IMAGES, MASKS))
    for ours, others, what in ((images, masks, "masks"), (masks, images, "images")):
        if lonely := sorted(set(ours) - set(others)):
            listed = ", ".join(str(ours[name]) for name in lonely[:_LISTED])
            more = f" and {len(lonely) - _LISTED} more" if len(lonely) > _LISTED else ""
            raise UserError(f"{where}: expected {what} of the same names, there are none for {listed}{more}")
    return [Pair(path, masks[name]) for name, path in images.items()]


def _files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """`{name without suffix: path}` of the images below a folder, sorted."""
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in READABLE and path.name[0] != "."]
    return {os.fspath(path.relative_to(root).with_suffix("")): path for path in found}


def read(
    pair: Pair, size: tuple[int, int], target: tuple[int, int], channels: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """An image uint8 (*size, channels), scaled bilinearly, and its mask uint8 (*target), or None.

    The whole image is scaled, whatever its shape is. A mask takes the nearest pixel.

    Raises:
        UserError: a file cannot be read, has no class indices, or image and mask differ in size.
    """
    try:
        image = read_image(pair.image, channels)
    except (OSError, ValueError) as error:
        raise UserError(f"{pair.image}: {error}") from None
    mask = None if pair.mask is None else indices(pair.mask)
    if mask is not None and mask.shape != image.shape[:2]:
        sizes = [f"{shape[0]} x {shape[1]}" for shape in (image.shape, mask.shape)]
        raise UserError(f"{pair.mask}: expected {sizes[0]} pixels as in {pair.image.name}, received {sizes[1]}")
    scaled = np.asarray(_scaled(image[..., 0] if channels == 1 else image, size, PIL.Image.Resampling.BILINEAR))
    scaled = scaled[..., np.newaxis] if channels == 1 else scaled
    return scaled, None if mask is None else np.asarray(_scaled(mask, target, PIL.Image.Resampling.NEAREST))


def indices(path: pathlib.Path) -> np.ndarray:
    """The class indices of a mask, uint8 (height, width); raises `UserError` if it has none."""
    try:
        with PIL.Image.open(path) as opened:
            mode, values = opened.mode, np.asarray(opened)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a mask that can be decoded ({error})") from None
    if values.ndim != 2 or values.min() < 0 or values.max() > 255:
        raise UserError(f"{path}: expected a class index from 0 to 255 for each pixel, received mode {mode}")
    return values.astype(np.uint8)


def _scaled(values: np.ndarray, size: tuple[int, int], how: PIL.Image.Resampling) -> PIL.Image.Image:
    image = PIL.Image.fromarray(values)
    return image if values.shape[:2] == tuple(size) else image.resize((size[1], size[0]), how)


def classes(pairs: Sequence[Pair], ignore: int) -> int:
    """The number of classes in the masks, which is the largest index but `ignore`, plus one."""
    values = {int(value) for pair in pairs if pair.mask is not None for value in np.unique(indices(pair.mask))}
    return max(values - {ignore}, default=0) + 1


def digest(pairs: Sequence[Pair]) -> str:
    """A short text that identifies these images and masks by their names and contents."""
    found = hashlib.sha256()
    for pair in pairs:
        for path in pair:
            if path is not None:
                found.update(path.name.encode() + hashlib.sha256(content(path)).digest())
    return found.hexdigest()[:16]
