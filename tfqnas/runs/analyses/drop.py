"""Compares the accuracy that shallow-fat and deep-slim subnets lose by quantization (OQA, section 4.5, figure 4)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from tfqnas import report
from tfqnas.arch import Arch, ArchData
from tfqnas.errors import UserError
from tfqnas.records import NotNegative, Positive, Share
from tfqnas.report import comparisons
from tfqnas.report.style import bits_label
from tfqnas.runs.analyses.agreement import mean_and_error
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.runs.analyses.shapes import has_both, pairs
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.train.stages import Bits

NAME = "drop"
SHAPES = ("shallow-fat", "deep-slim")


class _Subnet(TypedDict):
    arch: ArchData
    mmacs: NotNegative
    accuracies: list[Share]
    effective_mflops: list[NotNegative]


_Pair = TypedDict("_Pair", {"resolution": Positive, "shallow-fat": _Subnet, "deep-slim": _Subnet})


class Kind(TypedDict):
    bits: list[Bits]
    pairs: list[_Pair]
    note: str


KIND = Kind


def obstacle(supernets: Supernets, config: AnalysisConfig) -> str | None:
    if len(supernets.bits) < 2:
        return "there is only one bit width and no float supernet, so there is no drop"
    if not has_both(supernets.run.space):
        return f"space {supernets.run.space.name} has no choice of both depth and expand ratio"
    return None


def wants(supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
    return [("held_out", [arch for pair in _pairs(supernets, config) for arch in pair])]


def result(supernets: Supernets, config: AnalysisConfig) -> dict[str, Any]:
    """The accuracies of the subnets of all pairs at all bit widths.

    Returns:
        JSON data with `pairs`, records that hold for each shape its architecture, MACs, and accuracies in the order of
        `bits`.
    """
    records = []
    for pair in _pairs(supernets, config):
        record: dict[str, Any] = {"resolution": pair[0].resolution}
        for shape, arch in zip(SHAPES, pair, strict=True):
            record[shape] = {
                "arch": json.loads(arch.to_json()),
                "mmacs": supernets.run.costs.of(arch, None)["mmacs"],
                "accuracies": [supernets.accuracy(bits, arch) for bits in supernets.bits],
                "effective_mflops": [supernets.run.costs.of(arch, bits)["effective_mflops"] for bits in supernets.bits],
            }
        records.append(record)
    return {"bits": list(supernets.bits), "pairs": records, "note": supernets.source_note}


def table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Mean accuracies and drops of both shapes at each bit width, and the mean difference within pairs, in points.

    Returns:
        A list of records, with `drop` and its standard error over the pairs, `error`.
    """
    rows = []
    for place, bits in enumerate(result["bits"][1:], 1):
        drops = []
        for shape in SHAPES:
            own = [100 * a for a in (pair[shape]["accuracies"][0] for pair in result["pairs"])]
            here = [100 * a for a in (pair[shape]["accuracies"][place] for pair in result["pairs"])]
            drops.append([a - b for a, b in zip(own, here, strict=True)])
            rows.append({"bits": bits, "shape": shape, "source": _mean(own), "here": _mean(here), **_drop(drops[-1])})
        rows.append({"bits": bits, "shape": "deep-slim more", **_drop([b - a for a, b in zip(*drops, strict=True)])})
    return rows


def draw(result: Mapping[str, Any], path: Path) -> None:
    source = bits_label(result["bits"][0])
    comparisons.drops_figure(panels(result), path, f"What quantization costs, from {source}")


def panels(result: Mapping[str, Any]) -> dict[Any, dict[str, dict[str, Any]]]:
    """The data of `drops_figure`: for each bit width and shape points (cost, drop), their mean and standard error."""
    found: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in table(result):
        if row["shape"] in SHAPES:
            subnets, place = [pair[row["shape"]] for pair in result["pairs"]], result["bits"].index(row["bits"])
            drops = [100 * (net["accuracies"][0] - net["accuracies"][place]) for net in subnets]
            points = [(net["effective_mflops"][place], drop) for net, drop in zip(subnets, drops, strict=True)]
            found.setdefault(row["bits"], {})[row["shape"]] = {**row, "points": points}
    return found


def section(result: Mapping[str, Any], picture: Path) -> report.Section:
    rows = [{**row, "bits": bits_label(row["bits"])} for row in table(result)]
    columns = (
        ("bits", "at"),
        ("shape", "shape"),
        ("source", bits_label(result["bits"][0]) + ", %", ".2f"),
        ("here", "accuracy there, %", ".2f"),
        ("drop", "drop, points", "+.2f"),
        ("error", "standard error", ".2f"),
        ("count", "pairs"),
    )
    items = [report.Picture(picture), report.Table(rows, columns), _TEXT, *filter(None, [result["note"]])]
    return report.Section("Shallow and fat, or deep and slim", items)


_TEXT = (
    "Pairs of random subnets of the same resolution whose MACs differ by at most 2%. One has few blocks and large "
    "expand ratios (at most a third, and at least two thirds of the way from the least to the most in the space), the "
    "other many blocks and small expand ratios. They are scored on held-out images in both supernets. The standard "
    "error is over the pairs."
)


def _pairs(supernets: Supernets, config: AnalysisConfig) -> tuple[tuple[Arch, Arch], ...]:
    space, data = supernets.run.space, supernets.run.dataset
    found = pairs(space, config.subnets // 2, num_classes=data.num_classes, in_channels=data.channels)
    if len(found) < 2:
        raise UserError(
            f"`only=drop`: space {space.name}: expected pairs of a shallow-fat and a deep-slim subnet whose MACs "
            f"differ by at most 2%, found {len(found)}"
        )
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _drop(drops: Sequence[float]) -> dict[str, float]:
    mean, error = mean_and_error(drops)
    return {"drop": mean, "error": error, "count": len(drops)}
