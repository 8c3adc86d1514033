"""The directory of a quantized model, with its origin, its checkpoints and its results."""

import csv
import io
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from tfqnas.dqss.result import DqssResult
from tfqnas.errors import UserError, as_text
from tfqnas.files import read_json, replaced, write_atomically, write_json
from tfqnas.locks import has_contents
from tfqnas.records import Count, Open, Range
from tfqnas.train.checkpoint import Checkpoints

RECORD = "quantize.json"


class Origin(TypedDict):
    """`quantize.json`."""

    settings: dict[str, Any]
    model: str
    fingerprint: str


class ChoiceData(TypedDict):
    """A `Choice` in `strategies.json`."""

    layer: str
    role: Literal["weights", "inputs"]
    bits: Annotated[int, Range(2, 32)]
    strategy: str
    coefficient: float
    best_other: str
    candidates: dict[str, float]
    deployable: bool


class _Moment(TypedDict):
    step: Count
    loss: float | None
    coefficients: list[list[float]]


class Strategies(TypedDict):
    """`strategies.json`, the record of a `DqssResult`."""

    choices: list[ChoiceData]
    searched: list[tuple[str, str, list[str]]]
    history: list[Annotated[_Moment, Open()]]
    losses: dict[str, float | None]
    kept: str | None
    way: Literal["coefficients", "refinement", "single"]
    metrics: dict[str, dict[str, float | None]]


class Directory:
    """A directory with `quantize.json`, `checkpoints/`, `model.keras`, `model.json`, `strategies.json` and pictures.

    Args:
        path: path of the directory.
        settings: JSON data, `{name: value}`, that must be the same when the directory is opened again.
        model: name of the model.
        fingerprint: fingerprint of its weights.

    Raises:
        UserError: if the directory has other contents, or results of other settings or of another model.
    """

    def __init__(self, path: str | pathlib.Path, settings: Mapping[str, Any], model: str, fingerprint: str) -> None:
        self.path = pathlib.Path(path)
        record, ours = self.path / RECORD, {"settings": settings, "model": model, "fingerprint": fingerprint}
        if record.exists():
            if self.finished or self.checkpoints.files():  # otherwise there is nothing to lose
                _refuse_another(record, read_json(record, Origin), ours)
            write_json(record, ours)
        elif self.path.exists() and (not self.path.is_dir() or has_contents(self.path)):
            raise UserError(
                f"`output={path}`: expected a new directory, or one that tfqnas quantize made; it belongs to something "
                "else"
            )
        else:
            write_json(record, ours)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    @property
    def finished(self) -> bool:
        """Whether the model and the record have been written."""
        return all((self.path / name).exists() for name in ("model.keras", "strategies.json"))

    @property
    def results(self) -> dict[str, Any]:
        """The record that `write` wrote, with its metrics."""
        return read_json(self.path / "strategies.json", Strategies)

    def write(self, result: DqssResult, metrics: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Writes the model with its record, the table, and the results as the last file.

        Args:
            result: `tfqnas.dqss.result.DqssResult`.
            metrics: JSON data.
            about: what is known of the model, such as the names of its classes, for `model.json`.
        """
        with replaced(self.path / "model.keras") as temporary:
            result.model.save(temporary)
        write_json(self.path / "model.json", about)
        rows, text = [choice.row for choice in result.choices], io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["layer"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "strategies.csv", text.getvalue())
        write_json(self.path / "strategies.json", {**result.record(), "metrics": metrics})


def _refuse_another(path: pathlib.Path, kept: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    if kept.get("fingerprint") != ours["fingerprint"]:  # a path may be written in several ways
        raise UserError(
            f"`model`: {path} is of another model ({kept.get('model')}, {kept.get('fingerprint')}), received "
            f"{ours['model']} ({ours['fingerprint']}): give that one, or another `output`"
        )
    for name, value in ours["settings"].items():
        if (before := kept["settings"].get(name)) != value:
            raise UserError(
                f"`{name}={as_text(value)}` differs from {path}, which has `{name}={as_text(before)}`: give the same, "
                "or another `output`"
            )
