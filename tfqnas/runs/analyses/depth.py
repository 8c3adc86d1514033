"""Shows the depth of the subnets along the fronts (OQA, figure 6)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from tfqnas import report
from tfqnas.arch import Arch
from tfqnas.records import Count
from tfqnas.report import comparisons
from tfqnas.report.style import bits_label
from tfqnas.runs.analyses.agreement import mean_and_error
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.train.stages import Bits

NAME = "depth"


class _Front(TypedDict):
    bits: Bits
    depths: list[Count]


class Kind(TypedDict):
    range: tuple[Count, Count]
    fronts: list[_Front]
    note: str


KIND = Kind


def obstacle(supernets: Supernets, config: AnalysisConfig) -> str | None:
    if any(supernets.front(bits) for bits in supernets.run.bit_widths):
        return None
    return f"no front: run tfqnas search --run_dir={supernets.run.directory}"


def wants(supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
    return []


def result(supernets: Supernets, config: AnalysisConfig) -> dict[str, Any]:
    """The numbers of blocks of the subnets on each front, and the range in the space, as JSON data."""
    space = supernets.run.space
    fronts = {bits: supernets.front(bits) for bits in supernets.bits}
    return {
        "range": [sum(arch.depths) for arch in (space.smallest(), space.largest())],
        "fronts": [
            {"bits": bits, "depths": [sum(row.arch.depths) for row in front.rows]}
            for bits, front in fronts.items()
            if front
        ],
        "note": supernets.source_note,
    }


def draw(result: Mapping[str, Any], path: Path) -> None:
    groups = {front["bits"]: front["depths"] for front in result["fronts"]}
    comparisons.depths_figure(groups, result["range"], path, "Depth along the fronts")


def section(result: Mapping[str, Any], picture: Path) -> report.Section:
    rows = []
    for front in result["fronts"]:
        mean, error = mean_and_error(front["depths"])
        ends = {"lowest": min(front["depths"]), "highest": max(front["depths"])}
        rows.append(
            {"bits": bits_label(front["bits"]), "count": len(front["depths"]), "mean": mean, "error": error, **ends}
        )
    items = [report.Picture(picture), report.Table(rows, _COLUMNS), _TEXT, *filter(None, [result["note"]])]
    return report.Section("Depth along the fronts", items)


_COLUMNS = (
    ("bits", "front of"),
    ("count", "subnets"),
    ("mean", "mean depth", ".2f"),
    ("error", "standard error", ".2f"),
    ("lowest", "least"),
    ("highest", "most"),
)
_TEXT = (
    "Depth is the number of blocks in stages that have a choice. Neighbours on a front are often similar, so its "
    "subnets are fewer independent samples than the standard error assumes."
)
