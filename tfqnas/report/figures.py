"""Figures of a run as PNG files, drawn with matplotlib, which is imported on first use."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfqnas.report.canvas import columns, new_figure, save, set_axes
from tfqnas.report.page import Record
from tfqnas.report.style import COLOURS, GREY, INK, STYLES, Label, bits_label, cost_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pareto_figure(
    scored: Mapping[Any, Sequence[Record]], path: str | Path, title: str, dataset: str, cost: str = "effective_mflops"
) -> Path:
    """Draws all scored subnets as pale dots, and the Pareto front of each bit width as a line.

    Args:
        scored: `{label: records}` with the cost, `accuracy` (a fraction, 0 to 1) and `on_front`. An integer label is a
            bit width and shown as "4 bits".
        path: the PNG file.
        title: heading of the figure.
        dataset: shown below the title, with the number of subnets.
        cost: name of the cost.
    """
    groups = {
        bits_label(label): [_point(label, r, cost) for r in records] for label, records in scored.items() if records
    }
    if not groups:
        raise ValueError("pareto_figure: there are no scored subnets")
    figure = new_figure(7.6, 4.8)
    axes = figure.add_subplot()
    fronts, ends = {}, {}
    for (label, points), (colour, marker) in zip(groups.items(), cycle(STYLES), strict=False):
        axes.scatter(
            [x for x, _, _ in points], [y for _, y, _ in points], s=13, color=colour, alpha=0.22, linewidths=0, zorder=2
        )
        front = fronts[label] = sorted((x, y) for x, y, on_front in points if on_front)
        # A front is a staircase, since nothing better is known between two of its subnets and beyond the last.
        axes.step(*columns(front), where="post", color=colour, linewidth=1.8, zorder=3)
        reach = max(x for x, _, _ in points)
        if front:
            (x, y) = front[-1]
            axes.plot((x, reach), (y, y), color=colour, linewidth=1, alpha=0.55, zorder=3)
            ends[label] = (reach, y, colour)
        axes.plot(
            *columns(front),
            linestyle="none",
            marker=marker,
            markersize=6.5,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.9,
            zorder=4,
        )
    every = [point for points in groups.values() for point in points]
    hidden = set_axes(axes, every, [point for front in fronts.values() for point in front])
    _label_fronts(axes, ends)

    axes.set_xlabel(cost_label(cost))
    axes.set_ylabel("accuracy on held-out training images, %")
    subtitle = f"{dataset} · {len(every):,} subnets scored, Pareto front of each bit width"
    if hidden:
        subtitle += f" · {hidden:,} below the axis"
    axes.set_title(title, loc="left", fontsize=13.5, fontweight="bold", color=INK, pad=25)
    axes.annotate(
        subtitle, (0, 1), xycoords="axes fraction", xytext=(0, 9), textcoords="offset points", fontsize=9, color=GREY
    )
    return save(figure, path, grid="y")


def training_figure(records: Sequence[Record], path: str | Path, title: str = "Training") -> Path:
    """Draws loss, accuracy and learning rate over the steps of all stages.

    Args:
        records: records of `log.jsonl` with `stage`, `step` and any of `loss`, `accuracy` (a fraction) and
            `learning_rate`. Steps may count within a stage or through the whole run. If a killed run has repeated a
            step, its last record counts.
        path: the PNG file.
        title: heading of the figure.
    """
    stages = _stages(records)
    if not stages:
        raise ValueError("training_figure: no record has a stage, a step and a loss or an accuracy")
    rows = [row for row in _CURVES if any(row[0] in r for _, points in stages for _, r in points)]
    figure = new_figure(8.6, 1.1 + 1.95 * sum(row[3] for row in rows))
    panels = figure.subplots(
        len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [row[3] for row in rows]}
    )[:, 0]
    end = max(x for _, points in stages for x, _ in points)
    for axes, (key, axis, factor, _) in zip(panels, rows, strict=True):
        for number, (_, points) in enumerate(stages):
            curve = [(x, factor * r[key]) for x, r in points if isinstance(r.get(key), numbers.Real)]
            sparse = len(curve) < 16
            axes.plot(
                *columns(curve),
                color=COLOURS[number % len(COLOURS)],
                linewidth=1.5,
                marker="o" if sparse else None,
                markersize=3.2,
            )
            if number:
                axes.axvline(points[0][0], color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.set_ylabel(axis)
        axes.set_xlim(0, end * 1.005)
        if key == "learning_rate":
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
        axes.margins(y=0.08)
    for number, (stage, points) in enumerate(stages):
        following = stages[number + 1][1][0][0] if number + 1 < len(stages) else end
        share = (following - points[0][0]) / end
        turned = len(str(stage)) * 0.0095 > share
        panels[0].annotate(
            str(stage),
            (points[0][0], 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 4),
            textcoords="offset points",
            fontsize=8.5,
            color=COLOURS[number % len(COLOURS)],
            rotation=35 if turned else 0,
            ha="left",
            va="bottom",
            rotation_mode="anchor",
        )
    panels[-1].set_xlabel("step")
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    return save(figure, path)


def dots_figure(
    panels: Mapping[str, Sequence[tuple[str, Sequence[float], bool]]], path: str | Path, title: str, axis: str
) -> Path:
    """Draws rows of values as dots with their mean, in one panel per group.

    Args:
        panels: `{title: rows}` with rows `(label, values, strong)` from top to bottom; `strong` rows have colour.
        path: the PNG file.
        title: heading of the figure.
        axis: label of the values, with their unit.
    """
    if not panels or not all(panels.values()):
        raise ValueError("dots_figure: there are no values")
    figure = new_figure(1.0 + 4.3 * len(panels), 1.5 + 0.32 * max(len(rows) for rows in panels.values()))
    for number, (name, rows) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        for y, (_, values, strong) in enumerate(rows):
            colour = COLOURS[(number - 1) % len(COLOURS)] if strong else GREY
            axes.plot([min(values), max(values)], [y, y], color=colour, linewidth=1.8)
            axes.plot(values, [y] * len(values), "o", color=colour, markersize=7, markeredgecolor="white")
            axes.annotate(
                f"{sum(values) / len(values):.1f}",
                (max(values), y),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
                color=colour,
                fontweight="bold" if strong else "normal",
            )
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.18)
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel(axis)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    return save(figure, path, "x")


_CURVES = (  # key, axis title, factor, relative height
    ("loss", "loss", 1.0, 1.0),
    ("accuracy", "accuracy, %", 100.0, 1.0),
    ("learning_rate", "learning rate", 1.0, 0.45),
)


def _label_fronts(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Writes the name of each line at its right end `(x, y, colour)`, and moves labels that would overlap apart."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    by_height = sorted(ends.items(), key=lambda item: item[1][1])
    heights = [y for _, (_, y, _) in by_height]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    for i in range(len(heights) - 1, -1, -1):  # keeps labels below the upper edge
        heights[i] = min(heights[i], (heights[i + 1] if i + 1 < len(heights) else high + 0.5 * gap) - gap)
    for (label, (x, _, colour)), y in zip(by_height, heights, strict=True):
        axes.annotate(
            label,
            (x, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=colour,
            fontsize=10.5,
            fontweight="bold",
            annotation_clip=False,
            zorder=5,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def _point(label: Label, record: Record, cost: str) -> tuple[float, float, bool]:
    accuracy = float(record["accuracy"])
    if not 0.0 <= accuracy <= 1.0:
        raise ValueError(f"pareto_figure: {label}: accuracy is {accuracy}, expected a fraction from 0 to 1")
    return float(record[cost]), 100.0 * accuracy, bool(record["on_front"])


def _stages(records: Sequence[Record]) -> list[tuple[str, list[tuple[int, Record]]]]:
    """`[(stage, [(step counted through the run, record), ...])]` in the order of appearance."""
    by_stage: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        if "stage" in record and "step" in record and ("loss" in record or "accuracy" in record):
            steps = by_stage.setdefault(record["stage"], {})
            steps[record["step"]] = {**steps.get(record["step"], {}), **record}
    stages: list[tuple[str, list[tuple[int, Record]]]] = []
    end = 0
    for stage, steps in by_stage.items():
        offset = end if min(steps) < end else 0
        stages.append((stage, [(offset + step, steps[step]) for step in sorted(steps)]))
        end = offset + max(steps)
    return stages
