"""Compares how stably supernets were trained, with curves and distributions side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfqnas.report.canvas import new_figure, save
from tfqnas.report.page import Record
from tfqnas.report.style import COLOURS, INK

_LINES = ("-", "--", ":", "-.")


def stability_figure(series: Sequence[Record], path: str | Path, title: str) -> Path:
    """Draws smoothed training curves of supernets and the distribution of their subnets' accuracies.

    Args:
        series: a record for each training, with `label`, `seed`, `curves` (steps, losses of random subnets, losses of
            the smallest) and `values`, accuracies (0 to 1) of the same subnets. A label has a colour, a seed a line
            style.
        path: the PNG file.
        title: heading of the figure.
    """
    labels = list(dict.fromkeys(one["label"] for one in series))
    seeds = list(dict.fromkeys(one["seed"] for one in series))
    figure = new_figure(10.5, 3.8)
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": (1, 1, 0.9)})
    for one in series:
        style = _LINES[seeds.index(one["seed"]) % len(_LINES)]
        look = {"color": COLOURS[labels.index(one["label"])], "linestyle": style}
        steps, random, smallest = one["curves"]
        name = one["label"] if one["seed"] == seeds[0] else None
        for axes, losses in ((left, random), (middle, smallest)):
            axes.plot(steps, _smooth(losses), linewidth=1.4, label=name, **look)
    for axes, what in ((left, "random mixtures"), (middle, "the smallest, 2 bits")):
        axes.set_title(f"Training loss, {what}", loc="left", fontsize=10.5, color=INK)
        axes.set_xlabel("steps")
    left.legend(frameon=False, fontsize=9)
    rng = np.random.default_rng(0)
    for place, label in enumerate(labels):
        values = [100 * value for one in series if one["label"] == label for value in one["values"]]
        spread = rng.uniform(-0.18, 0.18, len(values))
        right.scatter(place + spread, values, s=9, color=COLOURS[place], alpha=0.35, linewidths=0)
        right.boxplot(
            [values],
            positions=[place],
            widths=0.5,
            showfliers=False,
            whis=(5, 95),
            medianprops={"color": INK, "linewidth": 1.6},
        )
    right.set_xticks(range(len(labels)), labels)
    right.set_title("Held-out accuracy of mixtures, %", loc="left", fontsize=10.5, color=INK)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    return save(figure, path)


def _smooth(values: Sequence[float], window: int = 9) -> list[float]:
    """Medians of windows, so that single steps do not hide the trend."""
    every = np.asarray(values)
    return [np.median(every[max(0, i - window) : i + window + 1]).item() for i in range(len(every))]
