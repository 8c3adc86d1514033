"""Shows which quantization strategy each layer has, and how the coefficients of the candidates moved."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfqnas.files import write_atomically
from tfqnas.report.canvas import new_figure
from tfqnas.report.page import Record
from tfqnas.report.style import COLOURS, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Heights in inches: a row of the heat map, the curves, and titles and margins together.
_ROW, _CURVES, _AROUND = 0.19, 2.6, 1.6
_STYLES = ("-", "--", ":")


def strategies_figure(record: Record, path: str | Path, title: str) -> list[Path]:
    """Draws a heat map of the coefficients (layers by candidates) and curves of their means over the search.

    Args:
        record: `tfqnas.dqss.result.Result.record()`. path: of the files, without suffix.

    Returns:
        The two files.
    """
    roles = [role for role in ("weights", "inputs") if any(c["role"] == role for c in record["choices"])]
    rows = {role: [c for c in record["choices"] if c["role"] == role] for role in roles}
    searched = bool(record["history"])
    height = _AROUND + _ROW * max(map(len, rows.values())) + (_CURVES if searched else 0)
    figure = new_figure(5.4 * len(roles), height)
    ratios = [_ROW * max(map(len, rows.values())) + 0.8, *([_CURVES] if searched else [])]
    panels = figure.subplots(len(ratios), len(roles), squeeze=False, gridspec_kw={"height_ratios": ratios})
    for column, role in enumerate(roles):
        names = _names(rows[role])
        _heat_map(panels[0][column], role, rows[role], names)
        if searched:
            _curves(panels[1][column], role, record, names)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    return [_written(figure, path, suffix) for suffix in ("svg", "png")]


def _names(choices: Sequence[Record]) -> list[str]:
    """The candidates of a role, in the order of the search."""
    return list(dict.fromkeys(name for choice in choices for name in choice["candidates"]))


def _heat_map(axes: Axes, role: str, choices: list[Record], names: list[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("coefficients", ["#f4f6f8", COLOURS[0]]).with_extremes(bad="white")
    absent = float("nan")
    values = [[choice["candidates"].get(name, absent) for name in names] for choice in choices]
    axes.imshow(values, aspect="auto", cmap=shades, vmin=0, vmax=1, interpolation="nearest")
    for y, choice in enumerate(choices):
        x = names.index(choice["strategy"])
        light = choice["coefficient"] > 0.45
        axes.plot(x, y, "o", markersize=5, color="white" if light else COLOURS[1], markeredgewidth=0)
    axes.set_xticks(range(len(names)), [name.replace("_per_", "\nper\n").replace("_", " ") for name in names])
    axes.set_yticks(range(len(choices)), [f"{c['layer']} · {c['bits']}" for c in choices])
    axes.tick_params(axis="x", labelsize=8, length=0, colors=INK, labeltop=True, labelbottom=False)
    axes.tick_params(axis="y", labelsize=7, length=0, colors=GREY)
    axes.set_xticks([x - 0.5 for x in range(1, len(names))], minor=True)
    axes.grid(which="minor", axis="x", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"{role}: layer · bits; dot: chosen", loc="left", fontsize=10, color=INK, fontweight="bold")


def _curves(axes: Axes, role: str, record: Record, names: list[str]) -> None:
    """A line for each candidate, the mean of its coefficients over its tensors, with their middle half as a band."""
    places = [(number, own) for number, (_, of, own) in enumerate(record["searched"]) if of == role]
    steps = [r["step"] for r in record["history"]]
    for number, name in enumerate(names):
        series = [
            sorted(r["coefficients"][i][own.index(name)] for i, own in places if name in own) for r in record["history"]
        ]
        if not series or not series[0]:
            continue
        colour, style = COLOURS[number % len(COLOURS)], _STYLES[number // len(COLOURS) % len(_STYLES)]
        means = [sum(values) / len(values) for values in series]
        axes.plot(steps, means, style, color=colour, linewidth=1.8, label=name.replace("_", " "))
        low, high = ([values[int(q * (len(values) - 1))] for values in series] for q in (0.25, 0.75))
        axes.fill_between(steps, low, high, color=colour, alpha=0.10, linewidth=0)
    axes.set_ylim(0, 1 + 0.11 * math.ceil(len(names) / 2))  # leaves room for the legend
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel("step of the search", fontsize=9, color=INK)
    axes.set_ylabel("coefficient", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=GREY, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#999999")
    axes.set_title("means over the layers, and the middle half of them", loc="left", fontsize=9, color=GREY)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2)


def _written(figure: Figure, path: str | Path, suffix: str) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
    return write_atomically(Path(f"{path}.{suffix}"), buffer.getvalue())
