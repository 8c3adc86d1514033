"""An interactive plot of accuracy against cost with a front for each bit width."""

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Self

from tfqnas.report.page import Html, Record, data_script
from tfqnas.report.shown import Space
from tfqnas.report.style import STYLES, accuracy_limits, bits_label, cost_label, space_kernel_colours
from tfqnas.report.svg import MARKERS, Scale, percent, stretched, tag, x_axis, y_axis

# Takes costs and accuracies, and returns the indices of the front in ascending cost.
Front = Callable[[Sequence[float], Sequence[float]], Iterable[int]]


def fronts_plot(
    space: Space,
    records: Sequence[Record],
    front: Front,
    caption: str = "",
    name: str = "fronts",
    accuracy: str = "accuracy on held-out training images",
    limit: int = 1000,
) -> Html:
    """A plot of the subnets of all bit widths as pale dots and their fronts as lines. The reader chooses the cost.

    The front of a bit width and cost is taken over the subnets that were scored on most images, since a score that was
    given up early may be too high by chance.

    Args:
        space: `SearchSpace` of the subnets.
        records: mappings with `bits` (int, or None for float), `arch` (its JSON fields), `key`, `accuracy` (a fraction,
            0 to 1) and `costs` (`{name: number}`); if known also `images` (number of images of the score) and
            `on_front` (whether the search put it on its front).
        front: `tfqnas.search.pareto_front`, or another function of costs and accuracies that returns indices.
        caption: a sentence below the plot.
        name: identifier of the plot, unique in the page, of letters, digits and "-".
        accuracy: label of the accuracy axis.
        limit: the most subnets of a bit width to draw that are on no front.

    Raises:
        ValueError: there are no records, the records have no cost in common, or an accuracy is not a fraction.
    """
    costs = _common_costs(records)
    plot = _Plot.of(name, _thinned(records, costs, front, limit), costs, front)
    scales = {c: {"label": cost_label(c), "low": s.low, "high": s.high, "log": s.log} for c, s in plot.x.items()}
    data = {
        "groups": [group.label for group in plot.groups],
        "points": plot.points,
        "costs": scales,
        "y": {"low": plot.y.low, "high": plot.y.high},
        "stages": [s + 1 for s in space.searched],
        "kernels": space_kernel_colours(space),
    }
    body = (
        _choices(name, costs)
        + _legend(name, plot.groups)
        + f'<p class="y title">{html.escape(accuracy)}, %</p>'
        + f'<div class="frame">{plot.svg()}</div>'
        + f"<figcaption>{html.escape(_words(plot, len(records), caption))}</figcaption>"
        + data_script(f"{name}-data", data)
    )
    return Html(f'<figure class="fronts" id="{html.escape(name)}">{body}</figure>', ("fronts.js",))


def _common_costs(records: Sequence[Record]) -> list[str]:
    """Names of the costs that all records have, in the order of the first record."""
    if not records:
        raise ValueError("fronts_plot: there are no scored subnets")
    for record in records:
        if not 0.0 <= record["accuracy"] <= 1.0:
            raise ValueError(f"fronts_plot: {record['key']}: accuracy is {record['accuracy']}, expected 0 to 1")
    costs = [cost for cost in records[0]["costs"] if all(record["costs"].get(cost) is not None for record in records)]
    if not costs:
        raise ValueError("fronts_plot: expected a cost that all subnets have, there is none")
    return costs


def _fronts(records: Sequence[Record], costs: Sequence[str], front: Front) -> dict[str, list[list[int]]]:
    """`{cost: fronts}` with the record indices on the front of each bit width, in the order of appearance."""
    by_bits: dict[Any, list[int]] = {}
    for i, record in enumerate(records):
        by_bits.setdefault(record["bits"], []).append(i)
    whole = []
    for members in by_bits.values():
        most = max(records[i].get("images") or 0 for i in members)
        whole.append([i for i in members if (records[i].get("images") or 0) == most])

    def line(members: Sequence[int], cost: str) -> list[int]:
        found = front([records[i]["costs"][cost] for i in members], [records[i]["accuracy"] for i in members])
        return [members[j] for j in found]

    return {cost: [line(members, cost) for members in whole] for cost in costs}


def _thinned(records: Sequence[Record], costs: Sequence[str], front: Front, limit: int) -> list[Record]:
    """The records, with at most `limit` of each bit width that are on no front."""
    kept = {i for lines in _fronts(records, costs, front).values() for line in lines for i in line}
    kept |= {i for i, record in enumerate(records) if record.get("on_front")}
    others: dict[Any, list[int]] = {}
    for i, record in enumerate(records):
        if i not in kept:
            others.setdefault(record["bits"], []).append(i)
    for members in others.values():
        count = min(len(members), limit)
        kept.update(members[j * len(members) // count] for j in range(count))
    return [records[i] for i in sorted(kept)]


@dataclass(frozen=True)
class _Group:
    """A bit width with its index in the legend and the data, its label, colour and marker."""

    number: int
    label: str
    colour: str
    shape: str


@dataclass(frozen=True)
class _Plot:
    """The content of the plot.

    Args:
        name: identifier of the plot.
        points: records, each with the number of its group.
        groups: `_Group`s.
        fronts: `{cost: fronts}` with the indices of the points on the front of each group.
        x: `{cost: Scale}`; the first one is shown.
        y: `Scale` of accuracies in per cent.
    """

    name: str
    points: list[dict[str, Any]]
    groups: list[_Group]
    fronts: dict[str, list[list[int]]]
    x: dict[str, Scale]
    y: Scale

    @classmethod
    def of(cls, name: str, records: Sequence[Record], costs: Sequence[str], front: Front) -> Self:
        labels = list(dict.fromkeys(bits_label(record["bits"]) for record in records))
        looks = zip(enumerate(labels), cycle(STYLES), strict=False)
        groups = [_Group(number, label, colour, shape) for (number, label), (colour, shape) in looks]
        points = [{"group": labels.index(bits_label(record["bits"])), **record} for record in records]
        fronts = _fronts(points, costs, front)
        x = {cost: Scale.over([point["costs"][cost] for point in points]) for cost in costs}
        ys = [100.0 * point["accuracy"] for point in points]
        limits = accuracy_limits(ys, [ys[i] for lines in fronts.values() for line in lines for i in line])
        return cls(name, points, groups, fronts, x, Scale(*limits))

    def below(self, point: Record) -> bool:
        return 100 * point["accuracy"] < self.y.low

    def svg(self) -> str:
        shapes = "".join(tag("path", d=MARKERS[g.shape], id=f"{self.name}-mark{g.number}") for g in self.groups)
        first, *others = self.x
        axes = [
            x_axis(scale, cost_label(cost), data_cost=cost, hidden="" if cost in others else None)
            for cost, scale in self.x.items()
        ]
        dots = [self._dots(group, first) for group in self.groups]
        fronts = [self._front(group, cost, cost in others) for cost in self.x for group in self.groups]
        labels = ", ".join(group.label for group in self.groups)
        return tag(
            "svg",
            tag("defs", shapes) + y_axis(self.y) + "".join([*axes, *dots, *fronts]),
            class_="plot",
            role="group",
            aria_label=f"accuracy against cost of {len(self.points)} subnets, Pareto fronts of {labels}",
        )

    def _dots(self, group: _Group, cost: str) -> str:
        """A circle for every subnet of a bit width; `data-i` is its place in the data."""
        circles = []
        for i, point in enumerate(self.points):
            if point["group"] == group.number:
                x, y = self._place(point, cost)
                ring = "below" if self.below(point) else None
                circles.append(tag("circle", cx=percent(x), cy=percent(y), r=3, data_i=i, class_=ring))
        look = {"fill": group.colour, "stroke": group.colour}
        return tag("g", "".join(circles), class_="dots", data_group=group.number, **look)

    def _front(self, group: _Group, cost: str, hidden: bool) -> str:
        line = self.fronts[cost][group.number]
        places = [self._place(self.points[i], cost) for i in line]
        marks = [
            _marker(self.name, group, x=percent(x), y=percent(y), data_i=i, class_="mark")
            for i, (x, y) in zip(line, places, strict=True)
        ]
        reach = max(self._place(p, cost)[0] for p in self.points if p["group"] == group.number)
        return tag(
            "g",
            _staircase(places, reach) + "".join(marks),
            class_="front",
            fill=group.colour,
            stroke=group.colour,
            data_group=group.number,
            data_cost=cost,
            hidden="" if hidden else None,
        )

    def _place(self, point: Record, cost: str) -> tuple[float, float]:
        """Fractions of width and height from the upper left corner; points below the axis are put on it."""
        return self.x[cost].share(point["costs"][cost]), min(1.0, 1 - self.y.share(100 * point["accuracy"]))


def _staircase(places: Sequence[tuple[float, float]], reach: float) -> str:
    """The line of a front, a staircase since nothing better is known between its subnets and beyond the last."""
    (left, top), *rest = [(1000 * x, 1000 * y) for x, y in places]
    steps = "".join(f"H{x:.2f}V{y:.2f}" for x, y in rest)
    return stretched(f"M{left:.2f} {top:.2f}{steps}H{1000 * reach:.2f}", class_="line")


def _marker(name: str, group: _Group, **attributes: Any) -> str:
    return tag("use", href=f"#{name}-mark{group.number}", **attributes)


def _choices(name: str, costs: Sequence[str]) -> str:
    """Radio buttons for the cost. They are hidden until the script that handles them shows them."""
    buttons = "".join(
        f'<label><input type="radio" name="{html.escape(name)}-cost" value="{html.escape(cost)}"'
        f"{'' if i else ' checked'}><span>{html.escape(cost_label(cost))}</span></label>"
        for i, cost in enumerate(costs)
    )
    return f'<fieldset class="choices" hidden><legend>accuracy against</legend>{buttons}</fieldset>'


def _legend(name: str, groups: Sequence[_Group]) -> str:
    def button(group: _Group) -> str:
        mark = tag("svg", _marker(name, group, x=8, y=8), width=16, height=16, fill=group.colour, aria_hidden="true")
        words = html.escape(group.label)
        return f'<button type="button" aria-pressed="true" data-group="{group.number}">{mark}{words}</button>'

    buttons = "".join(map(button, groups))
    return f'<div class="legend" role="group" aria-label="bit widths shown">{buttons}</div>'


def _words(plot: _Plot, scored: int, caption: str) -> str:
    words = [caption] if caption else []
    if len(plot.points) < scored:
        words.append(f"{len(plot.points):,} of {scored:,} scored subnets are drawn, with all that are on a front.")
    if below := sum(map(plot.below, plot.points)):
        words.append(f"{below:,} below the axis are rings on it.")
    return " ".join(words)
