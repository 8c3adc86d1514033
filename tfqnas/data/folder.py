"""Finds, checks and splits the images of a folder with a sub-folder for each class.

The files are `FOLDER/CLASS/image.jpg`, with a part of each class kept for testing, or `FOLDER/train/CLASS/image.jpg`
and `FOLDER/test/CLASS/image.jpg` (or `val`, `validation`).
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfqnas.data.data_config import DataConfig
from tfqnas.data.image_files import READABLE, UNREADABLE, Facts, changes_in, content, facts
from tfqnas.data.images import decoded, read_image
from tfqnas.data.splits import Arrays, Encoded, Split
from tfqnas.errors import UserError
from tfqnas.files import read_regular, write_atomically

# Images of equal size are held in memory if they take fewer bytes than this.
IN_MEMORY = 1e9
LISTED = 20
# Of what is kept in the cache.
_VERSION = 3
# Characters of the SHA-256 digest of an image's content.
DIGEST = 32


class ImageFile(NamedTuple):
    """An image of a folder.

    Attributes:
        name: path within the folder, with slashes.
        label: number of the class.
        facts: `Facts`.
        digest: the beginning of the SHA-256 digest of the file, `DIGEST` characters.
    """

    name: str
    label: int
    facts: Facts
    digest: str


@dataclasses.dataclass(frozen=True)
class Folder:
    """The images of a folder that can be read.

    Attributes:
        path: the folder.
        class_names: names of the classes, in the order of the labels.
        parts: `{name of the part: list of ImageFile}`, sorted by class and name. The parts are "train", and "test" if
            the folder has one.
    """

    path: pathlib.Path
    class_names: list[str]
    parts: dict[str, list[ImageFile]]

    @property
    def where(self) -> str:
        return f"`dataset={self.path}`"

    def split(self, test_share: float, say: Callable[[str], None]) -> tuple[list[ImageFile], list[ImageFile]]:
        """The training and the test images.

        Args:
            test_share: share of each class that is kept for testing, at least one image and never all, if the folder
                has no such part. The choice is the same in every run.
            say: called with warnings of images that are there twice.

        Raises:
            UserError: a class has no images, or only one.
        """
        _refuse_empty(self.parts, self.class_names, self.where)
        train = self.parts["train"]
        if "test" in self.parts:
            test = self.parts["test"]
        else:
            train, test = _split(train, self.class_names, test_share, self.where)
        _warn_of_copies({"train": train, "test": test}, self.where, say)
        return train, test

    def images(self, parts: Sequence[Sequence[ImageFile]]) -> tuple[tuple[int, int], list[Split]]:
        """`((median height, median width), splits)` of the images in some lists."""
        used = [file.facts for part in parts for file in part]
        channels = max(image.channels for image in used)
        height, width = np.median([image[:2] for image in used], axis=0)
        size = int(height), int(width)
        small = len({image[:2] for image in used}) == 1 and len(used) * size[0] * size[1] * channels < IN_MEMORY
        make = _arrays if small else _encoded
        return size, [make(self.path, part, channels) for part in parts]


def find(path: pathlib.Path, config: DataConfig, say: Callable[[str], None], known: bool = False) -> Folder:
    """Finds and checks the images of a folder.

    Args:
        path: the folder.
        config: `DataConfig`.
        say: called with lines for the user.
        known: whether there is a record of its images, so that a class may have become empty.

    Raises:
        UserError: the folder cannot be read, a class has no images, more than `config.max_bad_images` images cannot be
            read, or an image belongs to two classes.
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
    named = {part: _named(root, classes, where, say) for part, root in roots.items()}
    if not known:
        _refuse_empty(named, classes, where)
    checked = _checked(path, [name for names in named.values() for name, _ in names], config.max_bad_images, where, say)
    files: dict[str, list[ImageFile]] = {part: [] for part in named}
    for part, names in named.items():
        for name, label in names:
            if (result := checked[name]) is not None:
                files[part].append(ImageFile(os.path.relpath(name, path).replace(os.sep, "/"), label, *result))
    if line := changes_in([file.facts for part in files.values() for file in part]):
        say(f"{where}: {line}")
    return Folder(path, classes, files)


# Finding


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
    return [name for name, is_folder in _entries(path, where) if is_folder]


def _entries(path: str | pathlib.Path, where: str) -> list[tuple[str, bool]]:
    """`(name, whether it is a folder)` of what stands in a folder and is not hidden, sorted. Links are followed."""
    try:
        return sorted((entry.name, _is_folder(entry)) for entry in os.scandir(path) if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{where}: {path} cannot be read ({error.strerror})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _named(root: pathlib.Path, classes: Sequence[str], where: str, say: Callable[[str], None]) -> list[tuple[str, int]]:
    """`(path, label)` of all image files below the classes' folders, sorted by name.

    Every folder and every file counts once, however many links lead to it.
    """
    found: list[tuple[str, int]] = []
    left: list[str] = []
    # The class of each folder and file, by what the file system calls it. The root belongs to all classes.
    seen: dict[tuple[int, int], int | None] = {_identity(root): None}
    for label, name in enumerate(classes):
        known = seen.setdefault(_identity(root / name), label)
        if known != label:
            other = root if known is None else root / classes[known]
            raise UserError(f"{where}: {root / name} is a link to {other}, expected a folder of its own for each class")
    for label, name in enumerate(classes):
        waiting = [str(root / name)]
        while waiting:
            directory = waiting.pop()
            inner = []
            for entry, is_folder in _entries(directory, where):
                path = os.path.join(directory, entry)
                is_image = not is_folder and entry.lower().endswith(READABLE + UNREADABLE)
                if not (is_folder or is_image or os.path.islink(path)):
                    continue
                identity = _identity(path)
                if identity in seen:
                    owner = seen[identity]
                    if owner is not None and owner != label:
                        raise UserError(
                            f"{where}: {path} belongs to {classes[owner]} as well, by a link; expected one class for "
                            "each image"
                        )
                    left.append(path)
                elif identity == _NOTHING and not is_image:
                    left.append(path)
                else:
                    if identity != _NOTHING:
                        seen[identity] = label
                    if is_folder:
                        inner.append(path)
                    elif is_image:
                        found.append((path, label))
            waiting += reversed(inner)
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        say(f"{where}: left out, as links to nothing or to what is counted already: {left[0]}{more}")
    return found


_NOTHING = (0, 0)


def _identity(path: str | pathlib.Path) -> tuple[int, int]:
    """What names a file or folder in the file system, the same for all links to it; `_NOTHING` for a dangling link."""
    try:
        stat = os.stat(path)
    except OSError:
        return _NOTHING
    return stat.st_dev, stat.st_ino


def _refuse_empty(files: Mapping[str, Sequence[Any]], classes: Sequence[str], where: str) -> None:
    for part, split in files.items():
        counts = np.bincount([file[1] for file in split], minlength=len(classes))
        if not counts.all():
            empty = [classes[i] for i in np.flatnonzero(counts == 0).tolist()]
            place = f"the {part} images have" if len(files) > 1 else "there are"
            raise UserError(
                f"{where}: expected images ({' '.join(READABLE)}) in every class, {place} none in {', '.join(empty)}"
            )


def _split(
    files: Sequence[ImageFile], classes: Sequence[str], test_share: float, where: str
) -> tuple[list[ImageFile], list[ImageFile]]:
    labels = np.array([file.label for file in files])
    chosen = np.zeros(len(files), bool)
    rng = np.random.default_rng(0)
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"{where}: expected at least 2 images in every class, one to train and one to test on; "
                f"{classes[label]} has 1"
            )
        count = min(len(members) - 1, max(1, round(test_share * len(members))))
        chosen[rng.permutation(members)[:count]] = True
    return [files[i] for i in np.flatnonzero(~chosen).tolist()], [files[i] for i in np.flatnonzero(chosen).tolist()]


def _warn_of_copies(files: Mapping[str, Sequence[ImageFile]], where: str, say: Callable[[str], None]) -> None:
    """Says how many images have a copy in another class, or in the other split: scores mean less then."""
    by_content: dict[str, list[tuple[str, ImageFile]]] = collections.defaultdict(list)
    for part, split in files.items():
        for file in split:
            by_content[file.digest].append((part, file))
    copies = [same for same in by_content.values() if len(same) > 1]
    in_classes = [same for same in copies if len({file.label for _, file in same}) > 1]
    in_splits = [same for same in copies if len({part for part, _ in same}) > 1]
    for found, what in ((in_classes, "in more than one class"), (in_splits, "in training and test images")):
        if found:
            first = " and ".join(file.name for _, file in found[0][:2])
            say(f"warning: {where}: {len(found)} images are {what}, such as {first}")


# Checking


def _checked(
    path: pathlib.Path, files: Sequence[str], max_bad: int, where: str, say: Callable[[str], None]
) -> dict[str, tuple[Facts, str] | None]:
    """`{file: (facts, digest)}`, or None for a file that cannot be decoded.

    Every file is decoded once. The results are kept in the user's cache until a file's size or times change.

    Raises:
        UserError: more than `max_bad` files cannot be decoded. The message lists them.
    """
    cache = _cache_directory() / f"images-{hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:32]}.json"
    known, stamps = _kept(cache), {file: _stamp(file) for file in files}
    entries = {file: known[file] for file in files if file in known and known[file][0] == stamps[file]}
    new = [file for file in files if file not in entries]
    entries |= zip(
        new, ([stamps[file], *result] for file, result in zip(new, _check_all(new, say), strict=True)), strict=True
    )
    if new or len(known) != len(entries):
        try:
            write_atomically(cache, json.dumps({"version": _VERSION, "files": entries}))
        except OSError as error:
            say(f"the images are checked again in every run, since {cache} cannot be written ({error.strerror})")
    bad = [(file, entries[file][1]) for file in files if entries[file][2] is None]
    if bad:
        listed = "\n".join(f"  {file}: {reason}" for file, reason in bad[:LISTED])
        more = f"\n  and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        text = f"{where}: {len(bad)} of {len(files)} images cannot be read"
        if len(bad) > max_bad:
            raise UserError(f"{text}, expected at most `max_bad_images={max_bad}`:\n{listed}{more}")
        say(f"{text} and are skipped:\n{listed}{more}")
    return {file: (Facts(*entries[file][1]), entries[file][2]) if entries[file][2] else None for file in files}


def _kept(cache: pathlib.Path) -> dict[str, list[Any]]:
    """The entries of a cache; none if there is none, or if it is damaged or of another version."""
    try:
        kept = json.loads(read_regular(cache))
        if kept["version"] != _VERSION:
            return {}
        return {file: entry for file, entry in kept["files"].items() if _is_entry(entry)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _is_entry(entry: Any) -> bool:
    """Whether this is `[stamp, facts, digest]`, or `[stamp, reason, None]` of a file that cannot be decoded."""
    if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], list)):
        return False
    _, found, digest = entry
    if digest is None:
        return isinstance(found, str)
    if not (isinstance(digest, str) and len(digest) == DIGEST and isinstance(found, list) and len(found) == 4):
        return False
    *size, channels, changes = found
    whole = all(type(number) is int and number > 0 for number in size)
    return whole and channels in (1, 3) and isinstance(changes, list)


def _stamp(file: str) -> list[int]:
    """What changes whenever a file is written."""
    try:
        stat = os.stat(file)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _cache_directory() -> pathlib.Path:
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tfqnas"


def _check_all(files: Sequence[str], say: Callable[[str], None]) -> list[tuple[Any, str | None]]:
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


def _check(file: str) -> tuple[Any, str | None]:
    """`(facts, digest)` of an image, or `(reason, None)` if the file cannot be used."""
    if file.lower().endswith(UNREADABLE):
        return f"{os.path.splitext(file)[1]} is not supported, expected one of {' '.join(READABLE)}", None
    try:
        data = content(file)
        found = facts(data)
        decoded(data, found.channels)
    except OSError as error:
        return error.strerror or str(error), None
    except ValueError as error:
        return str(error), None
    return found, hashlib.sha256(data).hexdigest()[:DIGEST]


# Reading


def _arrays(root: pathlib.Path, files: Sequence[ImageFile], channels: int) -> Arrays:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda file: read_image(root / file.name, channels), files))
    return Arrays(np.stack(images), _labels(files))


def _encoded(root: pathlib.Path, files: Sequence[ImageFile], channels: int) -> Encoded:
    def read(number: int) -> tuple[bytes, int]:
        return content(root / files[number].name), files[number].label

    return Encoded(read, np.arange(len(files)), channels, _labels(files))


def _labels(files: Iterable[ImageFile]) -> np.ndarray:
    return np.array([file.label for file in files], np.int32)
