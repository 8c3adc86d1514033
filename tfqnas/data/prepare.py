"""Preparing a data set through TFDS, and what to do where it cannot be had."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfqnas.data.tfds_sets import builder, image_and_label
from tfqnas.errors import UserError
from tfqnas.files import write_atomically

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Seconds in which each of a data set's sites must answer: TFDS itself would try ten times.
PATIENCE = 4.0


def check(name: str, data_dir: str, say: Callable[[str], None]) -> tfds.core.DatasetBuilder:
    """Finds out, in seconds and without TensorFlow, whether a data set can be had.

    Args:
        name: as TFDS writes it. data_dir: where prepared data sets lie, by default TFDS' own directory.
        say: called with lines for the user.

    Returns:
        The TFDS builder, ready for `prepare`.

    Raises:
        UserError: an unknown name, no images with labels, files to be downloaded by hand that are not there,
            a site that does not answer.
    """
    made = builder(name, data_dir, "NAME")
    image_and_label(made.info.features, name, "NAME")
    manual = _manual(made)
    if made.is_prepared():
        say(f"{name} is prepared already: {made.data_dir}")
    elif made.MANUAL_DOWNLOAD_INSTRUCTIONS:
        wanted = {url.rsplit("/", 1)[-1] for url in made.url_infos or {}}
        there = {path.name for path in manual.iterdir()} if manual.is_dir() else set()
        if not (there & wanted if wanted else there):
            absent = ", ".join(sorted(wanted)) or "what the instructions name"
            raise _by_hand(made, f"not there: {absent}")
    elif missing := _not_at_hand(made, manual):
        silent = _silent_sites(missing)
        if silent and made.name == "fashion_mnist":
            say(f"{name}: {'; '.join(silent)}; taking it from Debian's package dataset-fashion-mnist instead")
            _fashion_mnist_from_debian(missing, manual)
        elif silent:
            files = ", ".join(info.filename or url for url, info in missing.items())
            raise UserError(
                f"{name} cannot be downloaded: {'; '.join(silent)}. Give this machine access, download it "
                f"by hand into {manual} ({files}), or copy {made.data_dir} from a machine that has it "
                "prepared"
            )
    return made


def prepare(made: tfds.core.DatasetBuilder) -> None:
    """Downloads a data set and writes it as TFDS does, with its progress bars; once only.

    Args:
        made: the builder, from `check`.

    Raises:
        UserError: a file to be downloaded by hand is missing, a download failed or is not what TFDS knows.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    manual = _manual(made)
    settings = tfds.download.DownloadConfig(manual_dir=str(manual) if manual.is_dir() else None)
    core = tfds.core.download
    try:
        made.download_and_prepare(download_dir=str(manual.parent), download_config=settings)
    except (AssertionError, tf.errors.NotFoundError) as error:
        if not made.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        files = {url.rsplit("/", 1)[-1] for url in made.url_infos or {}}
        missing = sorted(name for name in files if not (manual / name).exists())
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _by_hand(made, "; ".join([reason, *([f"not there: {', '.join(missing)}"] if missing else [])])) from None
    except (core.download_manager.NonMatchingChecksumError, core.util.DownloadError) as error:
        raise UserError(f"{made.name}: {error}") from None


def _manual(made: tfds.core.DatasetBuilder) -> pathlib.Path:
    """Where TFDS looks for files that were downloaded by hand."""
    return pathlib.Path(made.data_dir_root).expanduser() / "downloads" / "manual"


def _by_hand(made: tfds.core.DatasetBuilder, reason: str) -> UserError:
    lines = "\n".join(f"  {line.strip()}" for line in made.MANUAL_DOWNLOAD_INSTRUCTIONS.strip().splitlines())
    return UserError(f"{made.name} has to be downloaded by hand into {_manual(made)} ({reason}). TFDS says:\n{lines}")


def _not_at_hand(made: tfds.core.DatasetBuilder, manual: pathlib.Path) -> dict[str, Any]:
    """The files, by their address, that TFDS would download."""
    infos = made.url_infos or {}
    return {url: info for url, info in infos.items() if not (info.filename and (manual / info.filename).exists())}


def _silent_sites(files: Iterable[str]) -> list[str]:
    """What is wrong with the sites of these addresses, a line each; all are asked at once.

    By daemon threads: a look-up of a name cannot be stopped, and a pool would wait for it when the process ends.
    """
    sites = {urllib.parse.urlsplit(url).netloc: url for url in files}
    answers: dict[str, str | None] = dict.fromkeys(sites, "no answer")

    def ask(site: str, url: str) -> None:
        answers[site] = _ask(url)

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in sites.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [f"{site}: {problem}" for site, problem in dict(answers).items() if problem]


def _ask(url: str) -> str | None:
    """What is wrong with an address, or None."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=PATIENCE) as response:
            return None if response.ok else f"answers {response.status_code}"
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"


def _fashion_mnist_from_debian(files: Mapping[str, Any], manual: pathlib.Path) -> None:
    """Puts Fashion-MNIST's four files where TFDS looks first, byte for byte those of its site.

    Debian has taken the name and the time out of their gzip headers; they are put back, and the checksums that
    TFDS knows are checked.
    """
    if missing := _missing_debian():
        raise UserError(
            f"fashion_mnist: expected Debian's {missing} or access to its site, found neither; download "
            f"{', '.join(info.filename for info in files.values())} by hand into {manual}"
        )
    with tempfile.TemporaryDirectory() as directory:
        package = unpack_debian("dataset-fashion-mnist", directory)
        for info in files.values():
            packed = next(pathlib.Path(directory).rglob(info.filename)).read_bytes()
            content = _with_gzip_header(packed, info.filename)
            found = hashlib.sha256(content).hexdigest()
            if found != info.checksum:
                raise UserError(
                    f"fashion_mnist: {info.filename} of Debian's package {package} is another file: "
                    f"expected SHA-256 {info.checksum}, received {found}"
                )
            manual.mkdir(parents=True, exist_ok=True)
            write_atomically(manual / info.filename, content)


def _missing_debian() -> str | None:
    """The first of Debian's tools that is not there, or None."""
    return next((tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)), None)


def unpack_debian(package: str, directory: str | pathlib.Path) -> str:
    """Downloads a Debian package and unpacks its files into a directory, which needs no root.

    Returns:
        The name of the package's file.

    Raises:
        UserError: without Debian's tools, or where they fail.
    """
    if missing := _missing_debian():
        raise UserError(f"{package}: expected Debian's {missing} to download this package with, which is not there")
    _run(["apt-get", "-q", "download", package], directory)
    (file,) = pathlib.Path(directory).glob(f"{package}_*.deb")
    _run(["dpkg-deb", "-x", file.name, "."], directory)
    return file.name


def _run(command: Sequence[str], directory: str | pathlib.Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(
            f"{' '.join(command)} failed: {lines[-1] if lines else 'no message'} (after `apt-get update` "
            "as root it may work)"
        )


def _with_gzip_header(packed: bytes, filename: str) -> bytes:
    """The gzip file with the header that the authors' had: name and time of the original."""
    time = 1504176606 if filename.startswith("train") else 1504176627
    if packed[3] != 0:  # it has a name, or other fields, already
        return packed
    header = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\x00\x03"
    return header + filename.removesuffix(".gz").encode() + b"\x00" + packed[10:]
