"""Writes the report of a run: one page with its searches, extracted models, analyses, training and settings."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, TypedDict

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import read_json, read_jsonl
from tfqnas.records import Count, NotNegative, Open, Share
from tfqnas.runs.analyses import analysing
from tfqnas.runs.run import Run
from tfqnas.runs.searching import front_in, is_current, results_in
from tfqnas.scoring.predictor import Quality
from tfqnas.search import ParetoFront, Result, pareto_front
from tfqnas.search.directory import settings_in
from tfqnas.spaces import SearchSpace
from tfqnas.train.stages import Bits

_NOTE = (
    "A model's number is its row in search/b*/pareto.json; the largest network is listed for comparison. Accuracies "
    "are on the test split: before extraction in the supernet, after extraction with the saved and reloaded Keras "
    "model. kB counts the weights as deployed, with quantized weights at their bit width, others at 8 bits, and 32-bit "
    "biases. The .tflite file holds a byte for each weight. Its accuracy is measured in LiteRT, whose integers are "
    "identical to the reference's on every compared image. The ms here are for one image on one thread of the machine "
    "that made the file."
)
_COLUMNS = (
    ("model", "model"),
    ("arch_key", "architecture"),
    ("bits", "bits"),
    ("effective_mflops", "eff. MFLOPs", ".3f"),
    ("kB", "kB", ".1f"),
    ("before_snapping", "fractional zero points", ".2%"),
    ("before", "test before", ".2%"),
    ("after", "test after", ".2%"),
    ("tflite_accuracy", ".tflite", ".2%"),
    ("tflite_kB", "file kB", ".1f"),
    ("host_ms", "ms here", ".2f"),
    ("predicted_latency_ms", "ms by table", ".3g"),
    ("predicted_npu_cycles", "cycles by table", ",.0f"),
)


def columns(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The columns of the table of extracted models, without optional columns that no model has."""
    sometimes = ("predicted_latency_ms", "predicted_npu_cycles", "before_snapping")
    return [c for c in _COLUMNS if c[0] not in sometimes or any(record.get(c[0]) for record in models)]


def note(models: Sequence[Mapping[str, Any]]) -> str:
    """A text that explains the columns."""
    devices = dict.fromkeys(record["latency_device"] for record in models if record.get("latency_device"))
    return _NOTE + "".join(f" By table: predicted by the latency table of {device}." for device in devices)


def write(run: Run, directories: Mapping[Bits, pathlib.Path], models: Sequence[Mapping[str, Any]]) -> None:
    """Writes `pareto.png`, `training.png` and `report.html` into the run's directory.

    Args:
        run: `Run`.
        directories: `{bit width: directory of its search}`, which need not exist.
        models: records of extracted models.
    """
    current = {bits: where for bits, where in directories.items() if is_current(run, bits, where)}
    searches = [_Search.read(bits, where, run.space) for bits, where in current.items()]
    searches = [search for search in searches if search.results]
    pictures = run.directory / "pareto.png", run.directory / "training.png"
    log = run.directory / "log.jsonl"
    logged = read_jsonl(log, Annotated[_Logged, Open()])
    try:
        report.training_figure(logged, pictures[1])
    except ValueError as error:
        raise UserError(f"{log}: {error}") from None
    sections = [
        *_fronts(run, searches, pictures[0]),
        report.Section(
            "Extracted models", [*_drawing(run.space, models), report.Table(models, columns(models)), note(models)]
        ),
        *_distributions(run.space, searches),
        *_predictors(searches),
        *analysing.sections(run),
        report.Section("Training", [report.Picture(pictures[1])]),
        report.Section(
            "Settings",
            [
                report.Code(run.config.to_json()),
                *[report.Code(text) for text in dict.fromkeys(json.dumps(search.settings) for search in searches)],
            ],
        ),
    ]
    report.write_html(run.directory / "report.html", f"tfqnas: {run.config.dataset}", sections)


class _Logged(TypedDict, total=False):
    """What the report reads of a line of `log.jsonl`."""

    stage: str
    step: Count
    learning_rate: NotNegative
    loss: float | None
    accuracy: Share


@dataclasses.dataclass(frozen=True)
class _Search:
    """The state of the search of a supernet. Settings are {} and the front is None before they are written."""

    bits: Bits
    results: list[Result]
    front: ParetoFront | None
    settings: dict[str, Any]
    quality: Quality | None

    @classmethod
    def read(cls, bits: Bits, directory: pathlib.Path, space: SearchSpace) -> Self:
        kept, quality = settings_in(directory), directory / "predictor.json"
        return cls(
            bits,
            results_in(directory, space),
            front_in(directory, space),
            {**kept[0], **kept[1]} if kept else {},
            read_json(quality, Quality) if quality.exists() else None,
        )

    def rows(self) -> tuple[Result, ...]:
        """The front that the search has written, or the front so far."""
        return (self.front or ParetoFront.of(self.results, self.cost)).rows

    @property
    def cost(self) -> str:
        """The first of the minimised costs."""
        by = self.front.by if self.front else None
        return (by if isinstance(by, str) else by[0]) if by else next(iter(self.results[0].costs))


def _common_cost(searches: Sequence[_Search]) -> str:
    """The first minimised cost if all results have it, otherwise a cost that all results have."""
    first = searches[0]
    shared = set.intersection(*(set(r.costs) for search in searches for r in search.results))
    return next(cost for cost in (first.cost, *first.results[0].costs) if cost in shared)


def _fronts(run: Run, searches: Sequence[_Search], picture: pathlib.Path) -> list[report.Section]:
    if not searches:
        return []
    cost = _common_cost(searches)
    subtitle = f"{run.config.dataset}, space {run.space.name}"
    points = {search.bits: _points(search.results, cost) for search in searches}
    report.pareto_figure(points, picture, "Accuracy against cost", subtitle, cost)
    devices = dict.fromkeys(filter(None, (search.settings.get("latency_device") for search in searches)))
    words = " ".join(f"Predicted latency: by the table of {device}." for device in devices)
    records = _records(searches, cost)
    return [report.Section("Pareto fronts", [report.fronts_plot(run.space, records, pareto_front, words)])]


def _points(results: Sequence[Result], cost: str) -> list[dict[str, Any]]:
    """The records of a search for `report.pareto_figure`."""
    front = {row.arch for row in ParetoFront.of(results, cost).rows}
    return [{cost: r.costs[cost], "accuracy": r.accuracy, "on_front": r.arch in front} for r in results]


def _records(searches: Sequence[_Search], first: str) -> list[dict[str, Any]]:
    """The records of all searches for `report.fronts_plot`, with the cost `first` first and without estimates."""
    records = []
    for search in searches:
        front = {row.arch for row in search.rows()}
        for result in search.results:
            if not result.estimated:
                costs = {first: result.costs[first], **result.costs}
                record = {"bits": search.bits, "key": result.arch.key, "arch": json.loads(result.arch.to_json())}
                record |= {"accuracy": result.accuracy, "costs": costs, "on_front": result.arch in front}
                records.append(record | _images(result))
    return records


def _images(result: Result) -> dict[str, int]:
    return {"images": result.extra["images"]} if "images" in result.extra else {}


def _drawing(space: SearchSpace, models: Sequence[Mapping[str, Any]]) -> list[report.Html]:
    """The drawing of the distinct extracted architectures."""
    names: dict[Arch, list[str]] = {}
    for record in models:
        names.setdefault(Arch.from_json(record["arch"]), []).append(record["model"])
    labelled = {}
    for arch, own in names.items():
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        labelled[", ".join(own[:3]) + more] = arch
    return [report.architecture_drawing(space, labelled)] if labelled else []


def _distributions(space: SearchSpace, searches: Sequence[_Search]) -> list[report.Section]:
    if not searches:
        return []
    cost = _common_cost(searches)
    fronts = {}
    for search in searches:
        rows = sorted(search.rows(), key=lambda row: row.costs[cost])
        fronts[search.bits] = [{"arch": json.loads(row.arch.to_json()), "costs": row.costs} for row in rows]
    return [report.Section("What the fronts are made of", [report.distributions(space, fronts, cost)])]


def _predictors(searches: Sequence[_Search]) -> list[report.Section]:
    """Plots of predicted against measured accuracy, for the searches with a predictor."""
    plots = []
    for search in searches:
        if quality := search.quality:
            pairs = list(zip(quality.predicted, quality.measured, strict=True))
            name = f"{search.bits} bits" if isinstance(search.bits, int) else str(search.bits)
            plots.append(
                report.scatter(
                    pairs,
                    "predicted",
                    "measured",
                    quality.tau,
                    quality.error,
                    f"{name}, trained on {quality.trained} other subnets",
                )
            )
    return [report.Section("Accuracy predictor, on subnets that it was not trained on", plots)] if plots else []
