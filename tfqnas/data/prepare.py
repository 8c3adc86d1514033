"""Prepares a data set through TFDS, and says what to do if it is not available."""

from __future__ import annotations

import pathlib
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tfqnas.data.tfds_sets import builder, image_and_label
from tfqnas.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Seconds within which each site of a data set must answer. TFDS itself would try ten times.
PATIENCE = 4.0
# Other sources of data sets.
ELSEWHERE = {"fashion_mnist": ". A checkout on Debian or Ubuntu: python scripts/data_from_packages.py fashion_mnist"}


def check(name: str, data_dir: str, say: Callable[[str], None]) -> tfds.core.DatasetBuilder:
    """Checks within seconds and without TensorFlow whether a data set is available.

    Args:
        name: name in TFDS.
        data_dir: directory of prepared data sets; "" for TFDS' own.
        say: called with lines for the user.

    Returns:
        The TFDS builder, ready for `prepare`.

    Raises:
        UserError: the name is unknown, the data set has no labelled images, files that must be downloaded by hand are
            missing, or a site does not answer.
    """
    made = builder(name, data_dir, "NAME")
    image_and_label(made.info.features, name, "NAME")
    manual = manual_directory(made)
    if made.is_prepared():
        say(f"{name} is prepared already: {made.data_dir}")
    elif made.MANUAL_DOWNLOAD_INSTRUCTIONS:
        wanted = {url.rsplit("/", 1)[-1] for url in made.url_infos or {}}
        there = {path.name for path in manual.iterdir()} if manual.is_dir() else set()
        if not (there & wanted if wanted else there):
            absent = ", ".join(sorted(wanted)) or "what the instructions name"
            raise _by_hand(made, f"not there: {absent}")
    elif (missing := not_at_hand(made, manual)) and (silent := _silent_sites(missing)):
        files = ", ".join(info.filename or url for url, info in missing.items())
        raise UserError(
            f"{name} cannot be downloaded: {'; '.join(silent)}. Give this machine access, download it "
            f"by hand into {manual} ({files}), or copy {made.data_dir} from a machine that has it "
            f"prepared{ELSEWHERE.get(made.name, '')}"
        )
    return made


def prepare(made: tfds.core.DatasetBuilder) -> None:
    """Downloads a data set and prepares it with TFDS and its progress bars, unless it is already prepared.

    Args:
        made: the builder that `check` returned.

    Raises:
        UserError: a file that must be downloaded by hand is missing, or a download fails or has another checksum.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    manual = manual_directory(made)
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


def manual_directory(made: tfds.core.DatasetBuilder) -> pathlib.Path:
    """The directory in which TFDS looks for files that were downloaded by hand."""
    return pathlib.Path(made.data_dir_root).expanduser() / "downloads" / "manual"


def _by_hand(made: tfds.core.DatasetBuilder, reason: str) -> UserError:
    lines = "\n".join(f"  {line.strip()}" for line in made.MANUAL_DOWNLOAD_INSTRUCTIONS.strip().splitlines())
    return UserError(
        f"{made.name} has to be downloaded by hand into {manual_directory(made)} ({reason}). TFDS says:\n{lines}"
    )


def not_at_hand(made: tfds.core.DatasetBuilder, manual: pathlib.Path) -> dict[str, Any]:
    """`{URL: info}` of the files that TFDS would download."""
    infos = made.url_infos or {}
    return {url: info for url, info in infos.items() if not (info.filename and (manual / info.filename).exists())}


def _silent_sites(files: Iterable[str]) -> list[str]:
    """A line for each site of these addresses that has a problem. All sites are asked at once.

    Daemon threads are used since a name look-up cannot be stopped, and a pool would wait for it when the process ends.
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
    """The problem of an address, or None."""
    import requests

    try:
        with requests.get(url, stream=True, timeout=PATIENCE) as response:
            return None if response.ok else f"answers {response.status_code}"
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"
