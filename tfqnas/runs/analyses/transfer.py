"""Compares fronts that are moved to lower bit widths with the fronts found there (OQA, figures 2b and 5)."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from tfqnas import report
from tfqnas.arch import Arch, ArchData
from tfqnas.records import NotNegative, Share
from tfqnas.report import comparisons
from tfqnas.report.style import bits_label
from tfqnas.runs.analyses.agreement import mean_and_error
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.search import ParetoFront
from tfqnas.train.stages import Bits

NAME = "transfer"


class _Row(TypedDict):
    arch: ArchData
    cost: NotNegative
    score: Share
    test: Share | None
    accuracy: Share


class _Gain(TypedDict):
    held_out: float
    test: NotRequired[float]
    test_error: NotRequired[float | None]


class _Moved(TypedDict):
    source: Bits
    rows: list[_Row]
    gain: _Gain


class _Panel(TypedDict):
    bits: Bits
    by: str
    front: list[_Row]
    moved: list[_Moved]
    scored: list[tuple[NotNegative, Share]]
    note: str


KIND = list[_Panel]
# The most dots of scored subnets in a panel.
_DOTS = 500


def obstacle(supernets: Supernets, config: AnalysisConfig) -> str | None:
    """The reason why there is nothing to compare, or None."""
    searched = [bits for bits in supernets.run.bit_widths if supernets.front(bits)]
    if len(searched) > 1 or (searched and supernets.float_search):
        return None
    return f"fewer than two fronts: run tfqnas search --run_dir={supernets.run.directory} for all bit widths"


def wants(supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
    """`(split, architectures)` to score at a bit width: fronts from more bits, and all of them on test images."""
    moved = [row.arch for source in _sources(supernets, bits) for row in _front(supernets, source).rows]
    own = [row.arch for row in _front(supernets, bits).rows] if moved else []
    return [("held_out", moved), ("test", [*own, *moved])]


def result(supernets: Supernets, config: AnalysisConfig) -> list[dict[str, Any]]:
    """The front of each bit width and the fronts of supernets with more bits, scored at this bit width.

    Returns:
        JSON data, a list with a record for each bit width that has fronts to compare.
    """
    panels = []
    for target in supernets.bits:
        moved = [_moved(supernets, source, target) for source in _sources(supernets, target)]
        if moved := [panel for panel in moved if panel]:
            front = _front(supernets, target)
            searched = supernets.searched(target)
            by = _cost(supernets, front)
            dots = searched[:: -(-len(searched) // _DOTS)]
            panels.append(
                {
                    "bits": target,
                    "by": by,
                    "front": _rows(supernets, front, target, by, True),
                    "moved": moved,
                    "scored": [(result.costs[by], result.accuracy) for result in dots],
                    "note": supernets.source_note,
                }
            )
    return panels


def draw(result: Sequence[Mapping[str, Any]], path: Path) -> None:
    comparisons.moved_figure(result, path, "Searched at one bit width, used at a lower one")


def section(result: Sequence[Mapping[str, Any]], picture: Path) -> report.Section:
    rows = [
        {
            "from": bits_label(moved["source"]),
            "at": bits_label(panel["bits"]),
            "moved": len(moved["rows"]),
            "own": len(panel["front"]),
            **moved["gain"],
        }
        for panel in result
        for moved in panel["moved"]
    ]
    tested = all("test" in moved["gain"] for panel in result for moved in panel["moved"])
    table = report.Table(rows, _COLUMNS if tested else _COLUMNS[:-2])
    items = [report.Picture(picture), table, _TEXT, *filter(None, [result[0]["note"]])]
    return report.Section("Search then quantize, or search what is quantized", items)


_COLUMNS = (
    ("from", "front of"),
    ("at", "used at"),
    ("moved", "architectures"),
    ("own", "in its own front"),
    ("held_out", "lost, held-out points", "+.2f"),
    ("test", "lost, test points", "+.2f"),
    ("test_error", "standard error", ".2f"),
)
_TEXT = (
    "The lost points are the accuracy of the front found at this bit width minus the accuracy of the other front here, "
    "averaged over all budgets that both can meet (on a logarithmic scale of cost). Within a budget the architecture "
    "counts that was best in its own search. Held-out images favour the front found here, since their scores chose it; "
    "test images chose neither front. The standard error is over the test images."
)


def _sources(supernets: Supernets, target: Bits) -> list[Bits]:
    """The supernets with more bits that have a front; none if `target` has no front."""
    return [source for source in supernets.above(target) if supernets.front(source)] if supernets.front(target) else []


def _front(supernets: Supernets, bits: Bits) -> ParetoFront:
    """The front of a supernet that has been searched."""
    front = supernets.front(bits)
    assert front is not None
    return front


def _moved(supernets: Supernets, source: Bits, target: Bits) -> dict[str, Any] | None:
    """A front at another bit width, or None if it is not scored there yet."""
    front, own = _front(supernets, source), _front(supernets, target)
    by = _cost(supernets, own)
    rows = _rows(supernets, front, target, by, False)
    if any(row["accuracy"] is None for row in rows):
        return None
    ours = _rows(supernets, own, target, by, True)
    compared = budgets(*([[row[key] for row in some] for some in (ours, rows) for key in ("cost", "score")]))
    gain = {"held_out": 100 * sum(w * (ours[i]["accuracy"] - rows[j]["accuracy"]) for i, j, w in compared)}
    tested: list[list[Any]] = [
        [supernets.outcomes(target, row.arch, "test") for row in some.rows] for some in (own, front)
    ]
    if all(outcomes is not None for some in tested for outcomes in some):
        lost = sum(w * (tested[0][i].astype(float) - tested[1][j].astype(float)) for i, j, w in compared)
        gain["test"], gain["test_error"] = (100 * value for value in mean_and_error(lost))
    return {"source": source, "rows": rows, "gain": gain}


def _rows(supernets: Supernets, front: ParetoFront, target: Bits, by: str, own: bool) -> list[dict[str, Any]]:
    """The subnets of a front at a bit width; `score` is the accuracy for which their search chose them."""
    return [
        {
            "arch": json.loads(row.arch.to_json()),
            "cost": supernets.run.costs.of(row.arch, target)[by],
            "score": row.accuracy,
            "test": supernets.accuracy(target, row.arch, "test"),
            "accuracy": row.accuracy if own else supernets.accuracy(target, row.arch),
        }
        for row in front.rows
    ]


def _cost(supernets: Supernets, front: ParetoFront) -> str:
    """The cost along which fronts are compared: the search's first cost if it follows from the architecture alone."""
    first = front.by if isinstance(front.by, str) else front.by[0]
    return first if first in supernets.run.costs.of(front.rows[0].arch, None) else "effective_mflops"


def budgets(
    costs: Sequence[float], scores: Sequence[float], other_costs: Sequence[float], other_scores: Sequence[float]
) -> list[tuple[int, int, float]]:
    """The best subnets of two fronts within every budget that both can meet, up to the highest cost of the first.

    Returns:
        A list of `(index in the first, index in the other, weight)` with the highest scores within a budget. Weights
        are fractions of the range of the logarithm of the cost, and sum to 1.
    """
    low = max(min(costs), min(other_costs))
    high = max(low, *costs)
    edges = sorted({low, high, *(cost for cost in (*costs, *other_costs) if low < cost < high)})
    widths = [np.log(b / a) for a, b in itertools.pairwise(edges)] or [1.0]
    return [
        (_best(costs, scores, edge), _best(other_costs, other_scores, edge), float(width / sum(widths)))
        for edge, width in zip(edges, widths, strict=False)
    ]


def _best(costs: Sequence[float], scores: Sequence[float], budget: float) -> int:
    return max((i for i, cost in enumerate(costs) if cost <= budget), key=lambda i: scores[i])
