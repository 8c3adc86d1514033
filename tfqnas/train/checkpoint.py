"""Checkpoints: one file each, written whole or not at all, the one before kept."""

from __future__ import annotations

import io
import json
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.errors import UserError
from tfqnas.files import write_atomically

if TYPE_CHECKING:
    import keras

KEEP = 2
# What numpy and zipfile raise where bytes are missing or wrong: a flipped bit may ask for a compression that
# the file does not have, or for a password.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


class Checkpoints:
    """The checkpoints of one stage: `step-00001200.npz`, arrays by the path of their variable.

    A file is written under a temporary name and renamed; a truncated or damaged one (each array has a
    checksum) is passed over for the one before it.

    Args:
        directory: of the stage.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        self.directory = pathlib.Path(directory)

    def files(self) -> list[pathlib.Path]:
        """The checkpoint files, the newest first."""
        return sorted(self.directory.glob("step-*.npz"), reverse=True)

    def save(self, step: int, variables: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Writes the checkpoint of `step`; `variables` maps names to arrays, `meta` is JSON data."""
        self.directory.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        text = json.dumps({**meta, "step": step, "arrays": len(variables)})
        arrays: dict[str, Any] = {name.replace("/", "|"): v for name, v in variables.items()}
        np.savez(data, meta=np.array(text), **arrays)
        write_atomically(self.directory / f"step-{step:08d}.npz", data.getvalue())
        # Temporary files are what a kill left: one process writes here.
        for old in [*self.files()[KEEP:], *self.directory.glob(".step-*.tmp")]:
            old.unlink(missing_ok=True)

    def load(self, log: Callable[[str], None] = print) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Returns `(variables, meta)` of the newest intact checkpoint, or None where there is none."""
        for path in self.files():
            try:
                return read(path)
            except UserError as error:
                log(f"{error}; trying the one before it")
        return None


def read(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns `(variables, meta)` of one file.

    Raises:
        UserError: for a file that is not there, truncated or damaged.
    """
    try:
        with np.load(io.BytesIO(pathlib.Path(path).read_bytes()), allow_pickle=False) as arrays:
            values = {name.replace("|", "/"): arrays[name] for name in arrays.files}
        meta = json.loads(str(values.pop("meta")))
        # The list of a zip file's entries has no checksum: a flipped bit can make it shorter.
        if len(values) != meta.pop("arrays", len(values)):
            raise ValueError(f"{len(values)} arrays, some are missing")
        return values, meta
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except _DAMAGED as error:
        raise UserError(f"{path}: truncated or damaged ({error})") from None


def assign(variables: Iterable[keras.Variable], values: Mapping[str, np.ndarray], where: str) -> None:
    """Assigns arrays to variables by path.

    Args:
        variables: Keras variables. values: arrays by path. where: named in errors.

    Raises:
        UserError: naming the variable that is missing or has another shape.
    """
    for variable in variables:
        value = values.get(variable.path)
        if value is None or value.shape != tuple(variable.shape):
            found = "none" if value is None else f"shape {value.shape}"
            raise UserError(
                f"{where} does not fit this network: {variable.path} has shape {tuple(variable.shape)}, "
                f"the file holds {found}"
            )
        variable.assign(value)
