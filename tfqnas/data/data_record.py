"""The record of the images that a run was trained on: `data.json`, and for a folder also `data_files.csv`.

A run goes on with the images with which it began. Images that were added since are left out, so that no test image
becomes a training image. Where images are missing or have changed, the run is refused.
"""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

from tfqnas.errors import UserError
from tfqnas.files import read_json, read_regular, write_atomically, write_json
from tfqnas.records import Positive

if TYPE_CHECKING:
    from tfqnas.data.folder import ImageFile

SPLITS = ("train", "held_out", "test")
RECORD, FILES = "data.json", "data_files.csv"
_COLUMNS = ["split", "name", "sha256"]
_ADVICE = "put the former data back, or train another `run_dir` with the present ones"
_LISTED = 3


class _Record(TypedDict):
    """The content of `data.json`."""

    source: str
    class_names: list[str]
    image_size: tuple[Positive, Positive]
    channels: Literal[1, 3]
    counts: dict[str, Positive]
    origin: dict[str, Any]
    files_sha256: NotRequired[str]


class Image(NamedTuple):
    """An image of a folder: its path within the folder, and the beginning of its SHA-256 digest."""

    name: str
    digest: str


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """What tells a data set with its splits from another.

    Attributes:
        source: where the images come from, such as "digits" or "a folder of images".
        class_names: names of the classes, in the order of the labels.
        image_size: (height, width) in pixels.
        channels: 1 or 3.
        counts: `{split: number of images}`.
        origin: JSON data that tells the data of a source other than a folder.
        images: `{split: images}` of a folder, lists of `Image` in the order of training; otherwise empty.
    """

    source: str = "memory"
    class_names: tuple[str, ...] = ()
    image_size: tuple[int, int] = (0, 0)
    channels: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: Mapping[str, Sequence[Image]] = dataclasses.field(default_factory=dict)

    def digest(self, split: str) -> str:
        """A digest of the images of a split, which does not depend on their order or their names."""
        own = sorted(image.digest for image in self.images[split]) if self.images else [self.origin, split]
        return hashlib.sha256(json.dumps([self.class_names, own], sort_keys=True).encode()).hexdigest()[:32]

    def write(self, directory: pathlib.Path) -> None:
        """Writes the record into a run directory, `data.json` last."""
        facts = {name: value for name, value in dataclasses.asdict(self).items() if name != "images"}
        if self.images:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows((split, *image) for split in SPLITS for image in self.images[split])
            write_atomically(directory / FILES, text.getvalue())
            facts["files_sha256"] = hashlib.sha256(text.getvalue().encode()).hexdigest()
        write_json(directory / RECORD, facts)

    @classmethod
    def read(cls, directory: pathlib.Path) -> "DataRecord | None":
        """The record in a run directory, or None; raises `UserError` if it is damaged."""
        path = directory / RECORD
        if not path.exists():
            return None
        kept = read_json(path, _Record)
        digest, names = kept.pop("files_sha256", None), tuple(kept.pop("class_names"))
        images = _images(directory / FILES, digest) if digest is not None else {}
        record = cls(class_names=names, images=images, **kept)
        if record.images and {split: len(part) for split, part in record.images.items()} != record.counts:
            raise UserError(f"{path}: counts are {record.counts}, which are not those of {FILES}")
        return record

    def refuse_if_different(self, now: "DataRecord", name: str) -> None:
        """Raises `UserError` if `now`, the record of the data that `name` means at present, is of other data."""
        for what in ("source", "class_names", "channels", "counts", "origin", "image_size"):
            before, after = getattr(self, what), getattr(now, what)
            if before != after:
                words = what.replace("_", " ").replace("counts", "numbers of images")
                raise UserError(
                    f"`dataset={name}`: the data have changed since the run began: {words} {_text(before)} then, "
                    f"{_text(after)} now: {_ADVICE}"
                )

    def images_among(
        self, found: Sequence["ImageFile"], class_names: Sequence[str], name: str, say: Callable[[str], None]
    ) -> dict[str, list["ImageFile"]]:
        """The images of this record, by split and with this record's labels.

        An image that has another name now is known by its content.

        Args:
            found: the `ImageFile`s of the folder.
            class_names: the folder's classes.
            name: the folder, for messages.
            say: called with a line about images that are left out.

        Raises:
            UserError: a class or an image is missing, or an image has changed.
        """
        if gone := [one for one in self.class_names if one not in class_names]:
            raise UserError(
                f"`dataset={name}`: the classes have changed since the run began: {', '.join(gone)} then, "
                f"{', '.join(one for one in class_names if one not in self.class_names) or 'none'} now: {_ADVICE}"
            )
        labels = {label: self.class_names.index(n) for label, n in enumerate(class_names) if n in self.class_names}
        known = [file._replace(label=labels[file.label]) for file in found if file.label in labels]
        by_name = {file.name: file for file in known}
        # By content and class, which is a folder in the name of each image.
        by_content = {(file.digest, self.class_names[file.label]): file for file in known}
        parts: dict[str, list[ImageFile]] = {}
        missing: list[str] = []
        changed: list[str] = []
        for split, images in self.images.items():
            parts[split] = []
            for image in images:
                file = by_name.get(image.name)
                if file is None or file.digest != image.digest:
                    classes = [one for one in image.name.split("/")[:-1] if one in self.class_names]
                    other = next((by_content[k] for n in classes if (k := (image.digest, n)) in by_content), None)
                    if other is None:
                        (missing if file is None else changed).append(image.name)
                        continue
                    file = other
                parts[split].append(file)
        for names, what in ((missing, "are missing"), (changed, "have another content")):
            if names:
                total = sum(self.counts.values())
                more = " and others" if len(names) > _LISTED else ""
                raise UserError(
                    f"`dataset={name}`: {len(names)} of the {total} images with which the run began {what}: "
                    f"{', '.join(names[:_LISTED])}{more}: {_ADVICE}"
                )
        used = {file.name for part in parts.values() for file in part}
        if added := [file.name for file in found if file.name not in used]:
            say(f"{name}: {len(added)} images were added since the run began, and are left out, such as {added[0]}")
        return parts


def _images(path: pathlib.Path, digest: str) -> dict[str, list[Image]]:
    content = read_regular(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: not the file that {RECORD} was written with; was it edited?")
    images: dict[str, list[Image]] = {split: [] for split in SPLITS}
    for split, *image in list(csv.reader(io.StringIO(content.decode())))[1:]:
        images[split].append(Image(*image))
    return images


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
