"""Checkpoints, each a file that is written atomically. The previous checkpoint is kept."""

import io
import json
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import numpy as np

from tfqnas.errors import NotFiniteError, UserError
from tfqnas.files import write_atomically
from tfqnas.records import Count, Open, decode

if TYPE_CHECKING:
    import keras

KEEP = 2
# The errors of numpy and zipfile for missing or wrong bytes. A flipped bit may ask for another compression or for a
# password.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)


class DamagedError(UserError):
    """A checkpoint is truncated or damaged."""


class _Meta(TypedDict):
    step: Count
    arrays: NotRequired[Count]


class Checkpoints:
    """The checkpoints of a stage, files such as `step-00001200.npz` with arrays by the path of their variable.

    A file is written under a temporary name and renamed. If a file is truncated or damaged (each array has a checksum),
    the one before it is taken.

    Args:
        directory: directory of the stage.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        self.directory = pathlib.Path(directory)

    def files(self) -> list[pathlib.Path]:
        """The checkpoint files, the newest first."""
        return sorted(self.directory.glob("step-*.npz"), reverse=True)

    def save(self, step: int, variables: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Writes the checkpoint of `step`; `variables` maps names to arrays, `meta` is JSON data."""
        data = io.BytesIO()
        text = json.dumps({**meta, "step": step, "arrays": len(variables)})
        arrays: dict[str, Any] = {name.replace("/", "|"): v for name, v in variables.items()}
        np.savez(data, meta=np.array(text), **arrays)
        write_atomically(self.directory / f"step-{step:08d}.npz", data.getvalue())
        for old in self.files()[KEEP:]:
            old.unlink(missing_ok=True)

    def load(self, log: Callable[[str], None] = print) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """`(variables, meta)` of the newest intact checkpoint, or None; `log` gets a line for each damaged one."""
        for path in self.files():
            try:
                return read(path)
            except DamagedError as error:
                log(f"{error}; trying the one before it")
        return None


def read(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """`(variables, meta)` of a checkpoint file: arrays by the path of their variable, and JSON data.

    Raises:
        DamagedError: the file is truncated or damaged.
        UserError: the file is missing, or a value in it is not finite.
    """
    try:
        with np.load(io.BytesIO(pathlib.Path(path).read_bytes()), allow_pickle=False) as arrays:
            values = {name.replace("|", "/"): arrays[name] for name in arrays.files}
        meta = decode(str(values.pop("meta")), "its settings", Annotated[_Meta, Open()])
        # A flipped bit can shorten a zip file's list of entries, which has no checksum.
        if len(values) != meta.pop("arrays", len(values)):
            raise ValueError(f"{len(values)} arrays, some are missing")
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except _DAMAGED as error:
        raise DamagedError(f"{path}: truncated or damaged ({error})") from None
    check_values(values, str(path))
    return values, meta


def check_values(values: Mapping[str, np.ndarray], where: str) -> None:
    """Raises a `UserError` (`NotFiniteError`) if a value is not finite, or a step size of a quantizer not positive.

    Args:
        values: arrays by the path of their variable.
        where: name of their file, for messages.
    """
    for path, value in values.items():
        if not np.issubdtype(value.dtype, np.floating):
            continue
        if wrong := value.size - np.count_nonzero(np.isfinite(value)):
            why = ", as before a quantizer is set: tfqnas.initialize" * path.endswith("/step")
            raise NotFiniteError(f"{where}: {path}: {wrong:,} of {value.size:,} values are not finite{why}")
        if path.endswith("/step") and (wrong := np.count_nonzero(value <= 0)):
            raise UserError(f"{where}: {path}: expected positive step sizes, {wrong:,} of {value.size:,} are not")


def check_weights(variables: Iterable["keras.Variable"], where: str) -> None:
    """`check_values` for Keras variables."""
    check_values({v.path: np.asarray(v) for v in variables if v.dtype != "string"}, where)


def assign(variables: Iterable["keras.Variable"], values: Mapping[str, np.ndarray], where: str) -> None:
    """Assigns arrays to variables by path.

    Args:
        variables: Keras variables.
        values: arrays by path.
        where: name of the source for messages.

    Raises:
        UserError: an array is missing or has another shape. The message names the variable.
    """
    for variable in variables:
        value = values.get(variable.path)
        if value is None or value.shape != tuple(variable.shape) or value.dtype.kind not in "biuf":
            found = "none" if value is None else f"shape {value.shape} of {value.dtype}"
            raise UserError(
                f"{where} does not fit this network: {variable.path} has shape {tuple(variable.shape)}, "
                f"the file holds {found}"
            )
        variable.assign(value)
