import functools
import io

import numpy as np
import PIL.Image
import pytest

from tfqnas.data.splits import Encoded


def encoded_as(image, form="PNG", **options):
    """The file of a uint8 (height, width, channels) image."""
    file = io.BytesIO()
    PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, form, **options)
    return file.getvalue()


def smooth(number, height, width, channels=3):
    """A smooth picture, different for each number: JPEG changes little of it."""
    y, x = np.mgrid[:height, :width] / 10
    waves = [np.sin(x * (1 + c / 3) + number) + np.cos(y - c + number / 2) for c in range(channels)]
    return np.uint8(np.clip(np.stack(waves, axis=-1) * 60 + 128, 0, 255))


def folder_of(classes, root, size=None, form="PNG"):
    """Writes a folder with one sub-folder a class, of so many pictures or of these."""
    for number, (name, images) in enumerate(classes.items()):
        directory = root / name
        directory.mkdir(parents=True)
        if isinstance(images, int):
            sizes = [size or (20 + i, 24) for i in range(images)]
            images = [smooth(10 * number + i, *size) for i, size in enumerate(sizes)]
        for i, image in enumerate(images):
            (directory / f"{i:03}.{form.lower()}").write_bytes(encoded_as(image, form))
    return root


@pytest.fixture(scope="session")
def encode():
    """`encode(image, form="PNG", **options)`: the file of a uint8 (height, width, channels) image."""
    return encoded_as


@pytest.fixture(scope="session")
def photo():
    """`photo(number, height, width, channels=3)`: a smooth picture, uint8, different for each number."""
    return smooth


@pytest.fixture(scope="session")
def files():
    """Twelve photos of different sizes, PNG and JPEG in turn: `(file, label)`."""
    made = []
    for i in range(12):
        image = smooth(i, 20 + i, 30 - i)
        made.append((encoded_as(image, "JPEG", quality=95) if i % 2 else encoded_as(image), i))
    return made


@pytest.fixture(scope="session")
def encoded(files):
    """Their labels are their numbers."""
    return Encoded(lambda number: files[number], np.arange(len(files)), 3)


@pytest.fixture
def make_folder(tmp_path, monkeypatch):
    """`make_folder({"cats": 3, "dogs": [image, ...]}, root)`: a folder with one sub-folder a class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return functools.partial(folder_of, root=tmp_path / "photos")
