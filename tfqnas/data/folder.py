"""Finds, checks and splits the images of a folder with a sub-folder for each class.

The files are `FOLDER/CLASS/image.jpg`, with a part of each class kept for testing, or `FOLDER/train/CLASS/image.jpg`
and `FOLDER/test/CLASS/image.jpg` (or `val`, `validation`).
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from tfqnas.data.data_config import DataConfig
from tfqnas.data.image_files import READABLE, UNREADABLE, Facts, changes_in, facts
from tfqnas.data.images import decoded, read_image
from tfqnas.data.splits import Arrays, Encoded, Split
from tfqnas.errors import UserError
from tfqnas.files import read_regular, write_atomically

# Images of equal size are held in memory if they take fewer bytes than this.
IN_MEMORY = 1e9
LISTED = 20
# Of what is kept in the cache.
_VERSION = 2


def load(
    path: pathlib.Path, config: DataConfig, say: Callable[[str], None]
) -> tuple[list[str], tuple[int, int], Split, Split]:
    """Reads the folder.

    Args:
        path: the folder.
        config: `DataConfig`.
        say: called with lines for the user.

    Returns:
        `(class names, (height, width), training split, test split)`.

    Raises:
        UserError: the folder cannot be read, a class has no images, or more than `config.max_bad_images` images cannot
            be read.
    """
    where = f"`dataset={path}`"
    roots = _roots(path, where)
    classes = _folders(roots["train"], where)
    if not classes:
        raise UserError(f"{where}: expected one sub-folder a class with its images, found no sub-folder")
    if "test" in roots and _folders(roots["test"], where) != classes:
        other = sorted(set(classes) ^ set(_folders(roots["test"], where)))
        raise UserError(
            f"{where}: expected the same classes in {roots['train'].name} and {roots['test'].name}, "
            f"only one of them has {', '.join(other)}"
        )
    files = {name: _files(root, classes, where) for name, root in roots.items()}
    _refuse_empty(files, classes, roots, where)
    shapes = _checked([file for split in files.values() for file, _ in split], config.max_bad_images, where, say)
    files = {name: [(file, label) for file, label in split if shapes[file]] for name, split in files.items()}
    _refuse_empty(files, classes, roots, where)
    if "test" in files:
        train, test = files["train"], files["test"]
    else:
        train, test = _split(files["train"], config.test_share, where)
    used = [shape for file, _ in [*train, *test] if (shape := shapes[file])]
    channels = max(shape.channels for shape in used)
    height, width = np.median([s[:2] for s in used], axis=0)
    size = int(height), int(width)
    small = len({s[:2] for s in used}) == 1 and len(used) * size[0] * size[1] * channels < IN_MEMORY
    make = _arrays if small else _encoded
    return classes, size, make(train, channels), make(test, channels)


def _roots(path: pathlib.Path, where: str) -> dict[str, pathlib.Path]:
    """The folders that hold the classes: "train", and "test" if there is one."""
    if not path.is_dir():
        raise UserError(
            f"{where}: expected a folder with one sub-folder a class, "
            f"{'this is a file' if path.exists() else 'there is none'}"
        )
    names = _folders(path, where)
    tests = [name for name in ("test", "val", "validation") if name in names]
    if "train" in names and tests and _folders(path / "train", where):
        return {"train": path / "train", "test": path / tests[0]}
    return {"train": path}


def _folders(path: pathlib.Path, where: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read ({error.strerror})") from None


def _files(root: pathlib.Path, classes: Sequence[str], where: str) -> list[tuple[str, int]]:
    """`(path, label)` of all image files below the classes' folders, sorted by name."""
    found = []

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{where}: {error.filename} cannot be read ({error.strerror})")

    for label, name in enumerate(classes):
        for directory, folders, files in os.walk(root / name, onerror=refuse, followlinks=True):
            folders.sort()
            found += [
                (os.path.join(directory, file), label)
                for file in sorted(files)
                if file.lower().endswith(READABLE + UNREADABLE) and not file.startswith(".")
            ]
    return found


def _refuse_empty(
    files: Mapping[str, Sequence[tuple[str, int]]],
    classes: Sequence[str],
    roots: Mapping[str, pathlib.Path],
    where: str,
) -> None:
    for name, split in files.items():
        counts = np.bincount([label for _, label in split], minlength=len(classes))
        if not counts.all():
            empty = [classes[i] for i in np.flatnonzero(counts == 0).tolist()]
            raise UserError(
                f"{where}: expected images ({' '.join(READABLE)}) in every class, {roots[name]} has none "
                f"in {', '.join(empty)}"
            )


def _split(
    files: Sequence[tuple[str, int]], test_share: float, where: str
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Keeps a part of each class for testing, at least one image and never all. It is the same in every run."""
    labels = np.array([label for _, label in files])
    chosen = np.zeros(len(files), bool)
    rng = np.random.default_rng(0)
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"{where}: expected at least 2 images in every class, one to train and one to test on; "
                f"{os.path.dirname(files[int(members[0])][0])} has 1"
            )
        count = min(len(members) - 1, max(1, round(test_share * len(members))))
        chosen[rng.permutation(members)[:count]] = True
    return [files[i] for i in np.flatnonzero(~chosen).tolist()], [files[i] for i in np.flatnonzero(chosen).tolist()]


def _checked(files: Sequence[str], max_bad: int, where: str, say: Callable[[str], None]) -> dict[str, Facts | None]:
    """`{file: Facts}`, or None for a file that cannot be decoded.

    Every file is decoded once. The results are kept in the user's cache by name, size and modification time.

    Raises:
        UserError: more than `max_bad` files cannot be decoded. The message lists them.
    """
    stats = {file: os.stat(file) for file in files}
    key = json.dumps([(_VERSION, file, stats[file].st_size, stats[file].st_mtime_ns) for file in files])
    cache = _cache_directory() / f"images-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        results = json.loads(cache.read_text())
    except (OSError, ValueError):
        results = _check_all(files, say)
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(cache, json.dumps(results))
        except OSError as error:
            say(f"the images are checked again in every run, since {cache} cannot be written ({error.strerror})")
    bad = [(file, result) for file, result in zip(files, results, strict=True) if isinstance(result, str)]
    if bad:
        listed = "\n".join(f"  {file}: {reason}" for file, reason in bad[:LISTED])
        more = f"\n  and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        text = f"{where}: {len(bad)} of {len(files)} images cannot be read"
        if len(bad) > max_bad:
            raise UserError(f"{text}, expected at most `max_bad_images={max_bad}`:\n{listed}{more}")
        say(f"{text} and are skipped:\n{listed}{more}")
    found = {f: None if isinstance(r, str) else Facts(*r) for f, r in zip(files, results, strict=True)}
    if line := changes_in([one for one in found.values() if one]):
        say(f"{where}: {line}")
    return found


def _cache_directory() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tfqnas"


def _check_all(files: Sequence[str], say: Callable[[str], None]) -> list[list[Any] | str]:
    results, began, shown = [], time.monotonic(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for result in pool.map(_check, files):
            results.append(result)
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                left = (shown - began) / len(results) * (len(files) - len(results))
                done = len(results) / len(files)
                say(f"reading {len(files)} images for the first time: {done:.0%}, {left:.0f} s left")
    return results


def _check(file: str) -> list[Any] | str:
    """The `Facts` of an image, or the reason why the file cannot be used."""
    if file.lower().endswith(UNREADABLE):
        return f"{os.path.splitext(file)[1]} is not supported, expected one of {' '.join(READABLE)}"
    try:
        data = read_regular(file)
        found = facts(data)
        decoded(data, found.channels)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return list(found)


def _arrays(files: Sequence[tuple[str, int]], channels: int) -> Arrays:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda item: read_image(item[0], channels), files))
    return Arrays(np.stack(images), np.array([label for _, label in files], np.int32))


def _encoded(files: Sequence[tuple[str, int]], channels: int) -> Encoded:
    def read(number: int) -> tuple[bytes, int]:
        path, label = files[number]
        return read_regular(path), label

    return Encoded(read, np.arange(len(files)), channels, np.array([label for _, label in files], np.int32))
