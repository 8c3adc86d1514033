"""The figure of studies/strategies.py."""

import numpy as np

from tfqnas.report.canvas import new_figure, save
from tfqnas.report.style import COLOURS, GREY, INK


def draw(found, metric, path):
    """A panel for each network and mode: the metric against bits, DQSS and every single strategy, standard errors.

    Args:
        found: what `strategies.summary` returns. metric: name of a figure. path: of the .png to write.
    """
    labels = [label for label in dict.fromkeys(_label(group) for group, _ in found) if label not in ("float", "dqss")]
    panels = list(dict.fromkeys(group[1:3] for group, _ in found))
    networks, modes = (list(dict.fromkeys(names)) for names in zip(*panels, strict=True))
    figure = new_figure(1.6 + 4.2 * len(modes), 0.5 + 3.6 * len(networks))
    for network, mode in panels:
        place = len(modes) * networks.index(network) + modes.index(mode) + 1
        axes = figure.add_subplot(len(networks), len(modes), place)
        own = [(group, values[metric]) for group, values in found if group[1:3] == (network, mode) and metric in values]
        for group, (value, _, _) in own:
            if group[3] == 32:
                axes.axhline(value, color=INK, linewidth=1, linestyle="--", label="float")
        for number, label in enumerate([*labels, "dqss"]):
            points = sorted((group[3], *value) for group, value in own if _label(group) == label)
            if points:
                bits, means, errors, _ = np.array(points).T
                ours = label == "dqss"
                style = (
                    {"color": INK, "marker": "*", "markersize": 12, "linewidth": 2.2, "zorder": 5}
                    if ours
                    else {
                        "color": COLOURS[number % len(COLOURS)] if number < 2 * len(COLOURS) else GREY,
                        "marker": "osD^vPX<>hd"[number % 11],
                        "markersize": 5,
                        "linewidth": 1,
                        "alpha": 0.85,
                        "linestyle": "-" if number < len(COLOURS) else ":",
                    }
                )
                axes.errorbar(bits, means, np.nan_to_num(errors), label=label, **style)
        if metric in ("accuracy", "agreement"):
            _error_scale(axes)
        axes.set_xticks(sorted({group[3] for group, _ in own} - {32}))
        axes.invert_xaxis()
        axes.set_title(f"{network}, {mode}", loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel("bits of weights and inputs")
        axes.set_ylabel(metric)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, path, "y")


def _label(group):
    return " ".join(filter(None, group[4:6]))


def _error_scale(axes):
    """Shares from 0 to 1 on a scale that is logarithmic in what is missing to 1."""
    least = 0.01
    axes.set_yscale(
        "function", functions=(lambda share: -np.log(np.maximum(1 - share, least)), lambda y: 1 - np.exp(-y))
    )
    axes.set_yticks([0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96], minor=False)
