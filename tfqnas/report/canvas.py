"""The basis of all figures: a canvas, axes, and writing a file. matplotlib is imported on first use."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tfqnas.files import write_atomically
from tfqnas.report.style import GREY, GRID, INK, STYLES, Label, accuracy_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """A figure, sized in inches, that needs no window system and does not touch matplotlib's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path, grid: Literal["x", "y", "both"] = "both") -> Path:
    """Writes a PNG atomically, with all axes in the same style; `grid` is "x", "y" or "both"."""
    for axes in figure.axes:
        axes.set_axisbelow(True)
        axes.grid(color=GRID, linewidth=0.8, axis=grid)
        axes.tick_params(colors=GREY, labelsize=9, length=0, which="both")
        axes.xaxis.label.set(color=INK, fontsize=10)
        axes.yaxis.label.set(color=INK, fontsize=10)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color("#999999")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_atomically(path, buffer.getvalue())


def cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    """Sets up an axis of costs, logarithmic if they differ more than tenfold, with room for labels on the right."""
    low, high = min(costs), max(costs)
    if high > 10 * low:
        axes.set_xscale("log")
        span = (high / low) ** 0.05
        axes.set_xlim(low / span, high * span**2.6)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        if high < 100 * low:
            axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "235" else "")
    else:
        span = (high - low) or 0.1 * high
        axes.set_xlim(low - 0.05 * span, high + 0.13 * span)


def set_axes(axes: Axes, every: Sequence[tuple[Any, ...]], front: Sequence[tuple[Any, ...]]) -> int:
    """Sets up axes of cost and accuracy in per cent, and returns the number of points below (`accuracy_limits`).

    Args:
        axes: matplotlib's axes.
        every: points that begin with `(cost, accuracy)`.
        front: points `(cost, accuracy)` that must be visible.
    """
    ys = [point[1] for point in every]
    cost_axis(axes, [point[0] for point in every])
    axes.set_ylim(*accuracy_limits(ys, [y for _, y in front]))
    return sum(y < axes.get_ylim()[0] for y in ys)


def columns(points: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """The coordinates of points as sequences; two empty ones without points."""
    return tuple(zip(*points, strict=True)) or ((), ())


def looks(labels: Sequence[Label]) -> dict[Label, tuple[str, str]]:
    """Colour and marker of each supernet. Bit widths look the same in all figures; floating point (None) is black."""
    bits = [label for label in labels if label is not None]
    found: dict[Label, tuple[str, str]] = {label: STYLES[i % len(STYLES)] for i, label in enumerate(bits)}
    return {**found, None: (INK, "X")}
