"""Plots two scores of the same subnets against each other, such as predicted and measured accuracies."""

import html
from collections.abc import Sequence

from tfqnas.report.page import Html
from tfqnas.report.style import COLOURS
from tfqnas.report.svg import Scale, percent, tag, x_axis, y_axis


def scatter(
    pairs: Sequence[tuple[float, float]],
    x_label: str,
    y_label: str,
    tau: float | None = None,
    error: float | None = None,
    caption: str = "",
    same: bool = True,
) -> Html:
    """A plot with a dot for each subnet, and the agreement of the two scores below.

    Args:
        pairs: `(x, y)` accuracies as fractions, 0 to 1.
        x_label, y_label: labels of the axes without a unit; both axes are in per cent.
        tau: Kendall's tau of the scores (`tfqnas.search.kendall_tau`).
        error: their mean absolute difference, a fraction.
        caption: a sentence below the plot.
        same: whether both scores measure the same quantity. Both axes then share a scale, and a line marks equality.

    Raises:
        ValueError: there are no pairs, or a value is not a fraction.
    """
    if not pairs or not all(0 <= value <= 1 for pair in pairs for value in pair):
        raise ValueError(f"scatter: {x_label}: expected pairs of accuracies from 0 to 1, received {list(pairs)[:3]}")
    points = [(100.0 * x, 100.0 * y) for x, y in pairs]
    xs, ys = zip(*points, strict=True)
    x_scale, y_scale = (Scale.over([*xs, *ys]),) * 2 if same else (Scale.over(xs), Scale.over(ys))
    x_scale, y_scale = (Scale(scale.low, scale.high) for scale in (x_scale, y_scale))  # never logarithmic
    dots = "".join(
        tag("circle", cx=percent(x_scale.share(x)), cy=percent(1 - y_scale.share(y)), r=4) for x, y in points
    )
    equal = tag("line", x1="0", y1="100%", x2="100%", y2="0", class_="equal") if same else ""
    words = _agreement(len(points), tau, error)
    drawing = tag(
        "svg",
        y_axis(y_scale) + x_axis(x_scale, f"{x_label}, %") + equal + tag("g", dots, fill=COLOURS[0]),
        class_="plot",
        role="img",
        aria_label=f"{y_label} against {x_label}: {words}",
    )
    legend = html.escape(f"{caption} {words}".strip())
    return Html(
        f'<figure class="scatter"><p class="y title">{html.escape(y_label)}, %</p><div class="frame">{drawing}</div>'
        f"<figcaption>{legend}</figcaption></figure>"
    )


def _agreement(count: int, tau: float | None, error: float | None) -> str:
    words = [f"{count:,} subnets"]
    if tau is not None:
        words.append(f"Kendall's tau {tau:.2f}")
    if error is not None:
        words.append(f"mean absolute error {100 * error:.2f} points")
    return "; ".join(words) + "."
