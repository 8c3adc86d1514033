"""Data sets from packages, for a Debian or Ubuntu system whose way to the data sets' own sites is closed.

    python scripts/data_from_packages.py photos         # 21 and 7 photographs, prepared
    python scripts/data_from_packages.py fashion_mnist  # its four files, for tools/prepare_data.py fashion_mnist

photos: wallpapers of two Debian packages, and what scikit-image and scikit-learn bring along, for super-resolution and
for calibration. `tfqnas.data.photos` reads them. Each file is known by its SHA-256.

fashion_mnist: Debian's package has the four files without the name and the time in their gzip headers. Both are put
back, so the files are byte for byte those of the site, whose checksums TFDS knows; they go where TFDS looks first.

Neither needs root.
"""

import argparse
import hashlib
import io
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
from typing import NamedTuple

import PIL.Image

from tfqnas.data import prepare
from tfqnas.data.packages import file_of
from tfqnas.data.photos import VERSION, directory, index
from tfqnas.data.tfds_sets import builder
from tfqnas.errors import UserError
from tfqnas.files import write_atomically, write_json

# Larger photos are reduced to this, as those of DIV2K are: what is reduced has details in every pixel.
LONGEST_SIDE = 2040
# SHA-256 of the files, by the names of the photos.
_MATE = {
    "Aqua": "5c30118205982da441bf7e6a1ada636a8a0be879408140b3148280c665ed6bce",
    "Blinds": "f7aac0dcc2e06d0491643e84df3da1d9db7c4610f58806a880d56e074799f600",
    "Dune": "8a67c2cb0be8c46b70c237311a4fa4d2b4ac7d39568135384787801fa5cc9a91",
    "FreshFlower": "972b0a0c4e5e3fa93f4f244fc84bc64b121a5eac3aaa5856f1308c1f38a02f8e",
    "Garden": "d3095ee09d425ef23d27155412136cf14fc3c9af76ca58b452f55e23da324e78",
    "GreenMeadow": "8fa0de0aa4089f7319c9fb7a6d006d4cab6023e8c8853731557cff53567b4832",
    "LadyBird": "e35a9a4126ef969c90b29c038058c5a575a20eadd84106a37bf1fa9931e7b61d",
    "RainDrops": "3e4ea9671c28c90a86cf67b3db9daf18c4741587c596333a7529ca589aaa0c16",
    "Storm": "77ca53077831d3237f73393a91fc879158abc046d852941c26e90de336356957",
    "TwoWings": "665e5abf8a5399070a91a9a8e455fe071e5b61697ff78fdeda4e9843ef545aeb",
    "Wood": "19c78500ac00a622e19907ab9cc7d06d46fe08c4a6142759a84195696150ec07",
    "YellowFlower": "254da96256acb7add685679775a04d1e4a5bc8cd13e5a5a3d61351ce198a5306",
}
_PLASMA = {
    "BytheWater": "c272434ef39f2abf1ed48a15a8910088020f3165329a5092f3940ec9464bc05f",
    "ColdRipple": "05bef6722fc0ed81292cceb3ed026c38d17e510f3c84be7d68610c2b1a723c3f",
    "ColorfulCups": "6e0f3a72feb5a4a9fec191b77e34874c3c69e2d93040deb3f07773e73385023d",
    "EveningGlow": "586682dcb362b9f620068f10138f87d0d3649939aef238adc5807cb951976a7a",
    "FallenLeaf": "95603a6560c7e8d50e0e03b3f4adbe39c5258c72528e74e4ecaea1daf4e499de",
    "Grey": "88c31d8944b7e6935d1b9a296654c692f0772cb512491713eb30a972a604c0ed",
    "Kite": "bdca288ce296a981e80659c021cf707caddc702c0c8d4247e60bd618476d47f8",
    "OneStandsOut": "cb507baf1dafdcae362264f3aba9483ed4be5f6c9fdd770f0ec0920c6d9e80fd",
    "Path": "7477457d7f17b736259f1b021864778ad4ba802cf3214e6728181ff29126bba8",
}
_SKIMAGE = {
    "astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}
_SKLEARN = {
    "china.jpg": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower.jpg": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}


class Source(NamedTuple):
    """A photo in a package: its name, the package, the file in it and its SHA-256."""

    name: str
    package: str
    path: str
    checksum: str


def _sources(package, pattern, files):
    return tuple(
        Source(name.partition(".")[0].lower(), package, pattern.format(name), checksum)
        for name, checksum in files.items()
    )


# In Debian's packages.
TRAIN = (
    *_sources("mate-backgrounds", "usr/share/backgrounds/mate/nature/{}.jpg", _MATE),
    *_sources("plasma-workspace-wallpapers", "usr/share/wallpapers/{}/contents/images/2560x1600.jpg", _PLASMA),
)
# In installed Python packages.
TEST = (*_sources("skimage", "data/{}", _SKIMAGE), *_sources("sklearn", "datasets/images/{}", _SKLEARN))


def prepare_photos(data_dir=None, say=print):
    """Gathers the photos as PNG files with an index, once; all of them or none.

    Args:
        data_dir: directory of prepared TFDS data sets; by default that of TFDS. say: called with lines for the user.

    Returns:
        The index, as `tfqnas.data.photos.index` returns it.

    Raises:
        UserError: without Debian's tools or packages, without scikit-image, or for a file that is another one.
    """
    where = directory(data_dir)
    if known := index(data_dir):
        say(f"photos are prepared already: {where}")
        return known
    where.parent.mkdir(parents=True, exist_ok=True)
    for left in where.parent.glob(f".{where.name}.*.tmp"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    test = [file_of(photo.package, photo.path) for photo in TEST]  # before anything is downloaded
    with tempfile.TemporaryDirectory(dir=where.parent, prefix=f".{where.name}.", suffix=".tmp") as temporary:
        made, packages = pathlib.Path(temporary) / where.name, pathlib.Path(temporary) / "packages"
        packages.mkdir()
        for package in sorted({photo.package for photo in TRAIN}):
            say(f"photos: downloading Debian's package {package}")
            unpack_debian(package, packages)
        train = [packages / photo.path for photo in TRAIN]
        records = {"train": _store(TRAIN, train, made, "train"), "test": _store(TEST, test, made, "test")}
        known = {"version": VERSION, "longest_side": LONGEST_SIDE, **records}
        write_json(made / "index.json", known)
        if where.exists():  # of another version, or not whole
            shutil.rmtree(where)
        os.replace(made, where)
    return known


def _store(photos, paths, made, split):
    """Writes photos as PNG files; returns their records for the index."""
    (made / split).mkdir(parents=True)
    records = []
    for photo, path in zip(photos, paths, strict=True):
        image = _image(photo, path)
        if max(image.size) > LONGEST_SIDE:
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), PIL.Image.Resampling.BICUBIC, reducing_gap=None)
        file = f"{split}/{photo.name}.png"
        image.save(made / file)
        records.append(
            {
                "name": photo.name,
                "file": file,
                "size": [image.height, image.width],
                "source": photo.package,
                "sha256": photo.checksum,
            }
        )
    return records


def _image(photo, path):
    """The RGB image of a file that is the known one."""
    content = path.read_bytes() if path.exists() else b""
    found = hashlib.sha256(content).hexdigest() if content else "no file"
    if found != photo.checksum:
        raise UserError(
            f"photos: {photo.path} of {photo.package}: expected SHA-256 {photo.checksum}, received "
            f"{found}; another release of the package?"
        )
    with PIL.Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")


def fashion_mnist(data_dir=None, say=print):
    """Puts Fashion-MNIST's files where TFDS looks first, byte for byte those of its site.

    Raises:
        UserError: without Debian's tools, or for a file that is not the one whose checksum TFDS knows.
    """
    made = builder("fashion_mnist", data_dir, "NAME")
    manual = prepare.manual_directory(made)
    files = prepare.not_at_hand(made, manual)
    if files:
        fashion_mnist_files(files, manual)
    say(f"fashion_mnist: its files are in {manual}; next: python tools/prepare_data.py fashion_mnist")


def fashion_mnist_files(files, manual):
    """Takes files, `{address: TFDS' record of it}`, from Debian's package into the directory `manual`."""
    with tempfile.TemporaryDirectory() as temporary:
        package = unpack_debian("dataset-fashion-mnist", temporary)
        for info in files.values():
            packed = next(pathlib.Path(temporary).rglob(info.filename)).read_bytes()
            content = with_gzip_header(packed, info.filename)
            found = hashlib.sha256(content).hexdigest()
            if found != info.checksum:
                raise UserError(
                    f"fashion_mnist: {info.filename} of Debian's package {package} is another file: "
                    f"expected SHA-256 {info.checksum}, received {found}"
                )
            manual.mkdir(parents=True, exist_ok=True)
            write_atomically(manual / info.filename, content)


def with_gzip_header(packed, filename):
    """The gzip file with the header that the authors' had: name and time of the original."""
    time = 1504176606 if filename.startswith("train") else 1504176627
    if packed[3] != 0:  # it has a name, or other fields, already
        return packed
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\x00\x03"
    return header + filename.removesuffix(".gz").encode() + b"\x00" + packed[10:]


def unpack_debian(package, into):
    """Downloads a Debian package, unpacks its files into a directory, and returns the name of the package's file.

    Raises:
        UserError: without Debian's tools, or where they fail.
    """
    if missing := next((tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)), None):
        raise UserError(f"{package}: expected Debian's {missing} to download this package with, which is not there")
    _run(["apt-get", "-q", "download", package], into)
    (file,) = pathlib.Path(into).glob(f"{package}_*.deb")
    _run(["dpkg-deb", "-x", file.name, "."], into)
    return file.name


def _run(command, where):
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(
            f"{' '.join(command)} failed: {lines[-1] if lines else 'no message'} (after `apt-get update` "
            "as root it may work)"
        )


def main(arguments=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("photos", "fashion_mnist"))
    parser.add_argument("--data_dir", default="", help="directory of prepared TFDS data sets; by default that of TFDS")
    flags = parser.parse_args(arguments)
    try:
        if flags.name == "photos":
            made = prepare_photos(flags.data_dir)
            print(f"photos: train {len(made['train'])}, test {len(made['test'])} in {directory(flags.data_dir)}")
        else:
            fashion_mnist(flags.data_dir)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
