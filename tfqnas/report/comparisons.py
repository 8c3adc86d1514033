"""Figures of the analyses as PNG files, which compare bit widths, shapes and trainings.

Labels are bit widths, None for floating point. Accuracies are fractions from 0 to 1 unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfqnas.report.canvas import columns, cost_axis, looks, new_figure, save, set_axes
from tfqnas.report.page import Record
from tfqnas.report.style import COLOURS, GREY, INK, STYLES, Label, bits_label, cost_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

ACCURACY = "accuracy on held-out images, %"


def moved_figure(panels: Sequence[Record], path: str | Path, title: str) -> Path:
    """Fronts of wider supernets scored at lower bit widths, next to the fronts found there (OQA, figures 2b and 5).

    Args:
        panels: records with `bits`, `by` (name of the cost), `front` (rows with `cost` and `accuracy`), `scored` (pairs
            of cost and accuracy) and `moved`. The latter are records with `source`, `rows` as in `front`, and `gain`,
            a record of lost points of accuracy: `held_out`, and if known `test` and `test_error`.
        path: the file.
        title: heading of the figure.
    """
    if not panels:
        raise ValueError("moved_figure: there is nothing to compare")
    # Sorted from the highest bit width down, as in the other figures, so that the colours agree.
    labels = sorted({b for p in panels for b in (p["bits"], *(m["source"] for m in p["moved"])) if b}, reverse=True)
    look = looks(labels)
    figure = new_figure(1.0 + 4.4 * len(panels), 4.4)
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        scored, own = [(x, 100 * y) for x, y in panel["scored"]], _points(panel["front"])
        axes.plot(*columns(scored), "o", markersize=3.2, color=GREY, alpha=0.22, markeredgewidth=0)
        colour, marker = look[panel["bits"]]
        axes.step(*columns(own), where="post", color=colour, linewidth=1.8, zorder=3)
        axes.plot(
            *columns(own),
            marker,
            markersize=6,
            color=colour,
            markeredgecolor="white",
            label=f"searched at {bits_label(panel['bits'])}",
            zorder=4,
        )
        every = [*scored, *own]
        for place, moved in enumerate(panel["moved"]):
            points = _points(moved["rows"])
            every += points
            other, shape = look[moved["source"]]
            # Open markers of different sizes, since some architectures are on several fronts.
            size = 7 + 3 * (len(panel["moved"]) - 1 - place)
            axes.plot(
                *columns(points),
                shape,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=other,
                markeredgewidth=1.5,
                label=f"{_searched(moved['source'])}: {_lost(moved['gain'])}",
                zorder=5,
            )
        set_axes(axes, every, [*own, *(point for moved in panel["moved"] for point in _points(moved["rows"]))])
        axes.set_xlabel(cost_label(panel["by"]))
        axes.set_ylabel(ACCURACY if number == 1 else "")
        axes.set_title(f"used at {bits_label(panel['bits'])}", loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.legend(loc="lower right", frameon=False, fontsize=8.5, handletextpad=0.3)
    _heading(figure, title)
    return save(figure, path, "y")


def drops_figure(panels: Mapping[Label, Mapping[str, Record]], path: str | Path, title: str) -> Path:
    """The accuracy that subnets of two shapes lose (OQA, figure 4).

    Args:
        panels: `{bits: {shape: record}}`. A record has `points`, pairs of cost and drop in points of accuracy, and
            `drop` and `error`, the mean drop and its standard error.
        path: the file.
        title: heading of the figure.
    """
    figure = new_figure(1.0 + 3.9 * len(panels), 4.2)
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for number, (axes, (bits, shapes)) in enumerate(zip(every, panels.items(), strict=True)):
        # Shapes have other colours than bit widths.
        for (shape, record), (colour, marker) in zip(shapes.items(), STYLES[3:], strict=False):
            x, y = columns(record["points"])
            name = f"{shape}: {_change(-record['drop'])} ± {_figure(record['error'])}"
            axes.plot(
                x,
                [-drop for drop in y],
                marker,
                markersize=5.5,
                color=colour,
                alpha=0.75,
                label=name,
                markeredgecolor="white",
                markeredgewidth=0.6,
            )
            axes.axhline(-record["drop"], color=colour, linewidth=1.6)
        cost_axis(axes, [x for record in shapes.values() for x, _ in record["points"]])
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set_xlabel("effective MFLOPs")
        axes.set_ylabel("" if number else "change of accuracy, points")
        axes.set_title(f"at {bits_label(bits)}", loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.legend(loc="lower right", frameon=False, fontsize=9, handletextpad=0.2)
    low, high = every[0].get_ylim()
    every[0].set_ylim(low - 0.22 * (high - low), high)  # room for the legends
    _heading(figure, title)
    return save(figure, path, "y")


def depths_figure(groups: Mapping[Label, Sequence[int]], limits: Sequence[int], path: str | Path, title: str) -> Path:
    """The share of a front's subnets with each total depth, one row per bit width (OQA, figure 6).

    Args:
        groups: `{bits: total depths of the subnets of its front}`.
        limits: least and greatest depth of the space.
        path: the file.
        title: heading of the figure.
    """
    figure, look = new_figure(6.4, 1.1 + 1.05 * len(groups)), looks(list(groups))
    rows = figure.subplots(len(groups), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    low, high = limits
    for axes, (bits, depths) in zip(rows, groups.items(), strict=True):
        colour, _ = look[bits]
        shares = [100 * depths.count(depth) / len(depths) for depth in range(low, high + 1)]
        axes.bar(range(low, high + 1), shares, width=0.8, color=colour, alpha=0.55)
        mean = sum(depths) / len(depths)
        axes.axvline(mean, color=colour, linewidth=2)
        axes.annotate(
            f"{mean:.1f}",
            (mean, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -1),
            va="top",
            textcoords="offset points",
            color=colour,
            fontsize=9.5,
            fontweight="bold",
        )
        axes.set_ylabel(f"{bits_label(bits)}\n{len(depths)} subnets", rotation=0, ha="right", va="center")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0f}%")
    rows[-1].set_xlabel("blocks in all stages that have a choice; line: mean")
    rows[-1].set_xticks(range(low, high + 1, max(1, (high - low) // 12)))
    _heading(figure, title)
    return save(figure, path, "y")


def ranking_figure(
    scores: Mapping[Label, Sequence[float]],
    taus: Mapping[tuple[Label, Label], Record],
    halves: Mapping[Label, float],
    mmacs: Sequence[float],
    path: str | Path,
    title: str,
) -> Path:
    """Scores of the same subnets at each pair of bit widths, and how similarly the pair ranks them.

    Args:
        scores: `{bits: accuracies}` with the subnets in the same order.
        taus: `{(bits, bits): record}` with `tau`, `low` and `high`.
        halves: `{bits: tau}` of the accuracies on two halves of the images.
        mmacs: million MACs of the subnets.
        path: the file.
        title: heading of the figure.
    """
    labels = list(scores)
    count, look = len(labels), looks(labels)
    figure = new_figure(0.9 + 2.15 * count, 0.9 + 2.1 * count)
    for row, second in enumerate(labels):
        for column, first in enumerate(labels):
            axes = figure.add_subplot(count, count, row * count + column + 1)
            if row > column:
                _scatter(axes, scores[first], scores[second], mmacs)
                axes.set_xlabel(f"{bits_label(first)}, %" if row == count - 1 else "")
                axes.set_ylabel("" if column else f"{bits_label(second)}, %")
                continue
            axes.set_xticks([])
            axes.set_yticks([])
            if row == column:
                words = f"half the images and\nthe other half: {_figure(halves[first])}"
                _cell(axes, bits_label(first), words, "white", look[first][0])
            else:
                found = taus[labels[row], labels[column]]
                _cell(
                    axes,
                    _figure(found["tau"]),
                    f"{_figure(found['low'])} to {_figure(found['high'])}",
                    (*_rgb(COLOURS[0]), 0.75 * max(0.0, found["tau"] or 0.0)),
                    INK,
                )
    figure.supxlabel(
        "Below: accuracies, a dot a subnet, darker for more MACs. Above: Kendall's tau, 95% of resamples.",
        x=0.02,
        ha="left",
        fontsize=9,
        color=GREY,
    )
    _heading(figure, title)
    return save(figure, path)


def alone_figure(points: Sequence[tuple[float, float, float]], found: Record, path: str | Path, title: str) -> Path:
    """Accuracies of subnets trained alone against their accuracies in the supernet, with Kendall's tau.

    Args:
        points: `(accuracy in the supernet, accuracy alone, million MACs)`.
        found: record with `tau`, `low` and `high`.
        path: the file.
        title: heading of the figure.
    """
    figure = new_figure(5.2, 4.4)
    axes = figure.add_subplot()
    together, alone, mmacs = columns(points)
    dots = _scatter(axes, together, alone, mmacs, 42)
    bar = figure.colorbar(dots, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label("million MACs")
    bar.outline.set_visible(False)
    axes.set_xlabel("in the supernet, %")
    axes.set_ylabel("trained alone, %")
    axes.set_title(
        f"Kendall's tau {_figure(found['tau'])} ({_figure(found['low'])} to {_figure(found['high'])})",
        loc="left",
        fontsize=10.5,
        color=INK,
    )
    _heading(figure, title)
    return save(figure, path)


def _points(rows: Sequence[Record]) -> list[tuple[float, float]]:
    return sorted((row["cost"], 100 * row["accuracy"]) for row in rows)


def _searched(label: Label) -> str:
    return "searched in floating point" if label is None else f"searched at {bits_label(label)}"


def _lost(gain: Record) -> str:
    """The change of accuracy in points, as text."""
    if "test" in gain:
        return f"{_change(-gain['test'])} ± {_figure(gain['test_error'])} test points"
    return f"{_change(-gain['held_out'])} points"


def _change(points: float) -> str:
    return f"{points:+.2f}".replace("-", "\N{MINUS SIGN}").replace("\N{MINUS SIGN}0.00", "0.00")


def _scatter(
    axes: Axes, first: Sequence[float], second: Sequence[float], mmacs: Sequence[float], size: float = 16
) -> PathCollection:
    """Dots in per cent, darker for subnets with more MACs."""
    axes.margins(0.08)
    x, y = ([100 * value for value in values] for values in (first, second))
    return axes.scatter(x, y, s=size, c=mmacs, cmap=_shades(), linewidths=0.4, edgecolors="white", zorder=3)


def _shades() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("cost", ("#9ecae1", COLOURS[0], "#08264a"))


def _cell(axes: Axes, large: str, small: str, background: str | tuple[float, float, float, float], colour: str) -> None:
    axes.set_facecolor(background)
    axes.text(0.5, 0.58, large, transform=axes.transAxes, ha="center", va="center", fontsize=17, color=colour)
    axes.text(0.5, 0.36, small, transform=axes.transAxes, ha="center", va="center", fontsize=8.5, color=INK)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _figure(value: float | None) -> str:
    return "?" if value is None or value != value else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _heading(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
