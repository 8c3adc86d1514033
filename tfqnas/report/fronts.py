"""Accuracy against each cost, a front for each bit width: a plot whose points tell what they are."""

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Self

from tfqnas.report.page import Html, Record, data_script
from tfqnas.report.shown import Space
from tfqnas.report.style import STYLES, accuracy_limits, bits_label, cost_label, space_kernel_colours
from tfqnas.report.svg import MARKERS, Scale, percent, stretched, tag, x_axis, y_axis

# (costs, accuracies) -> indices of the front in ascending cost.
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
    """The scored subnets of all bit widths as pale dots, the front of each as a line; the cost can be chosen.

    A front is made for each bit width and cost, of the subnets that were scored on the most images there: a score
    that was given up early may be a lucky one.

    Args:
        space: `SearchSpace` of the subnets.
        records: mappings with `bits` (int, or None for float), `arch` (the fields of its JSON), `key`, `accuracy`
            (a fraction, 0 to 1), `costs` (name -> number), and where known `images`, how many it was scored on, and
            `on_front`, whether the search put it on its front.
        front: `tfqnas.search.pareto_front`: (costs, accuracies) -> indices of the front in ascending cost.
        caption: a sentence below. name: of the plot, unique in the page: letters, digits and "-".
        accuracy: what the axis shows. limit: of a bit width's subnets that are on no front, at most so many are drawn.

    Raises:
        ValueError: there are no records, no cost that all of them have, or an accuracy is no fraction.
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
    """Names of the costs that all records have, in the order of the first one."""
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
    """cost -> for each bit width in the order of appearance: indices of the records on its front, ascending."""
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
    """The records without some of those on no front, where a bit width has more than `limit` of them."""
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
    """A bit width: its place in the legend and in the data, how it looks."""

    number: int
    label: str
    colour: str
    shape: str


@dataclass(frozen=True)
class _Plot:
    """What is drawn.

    Args:
        name: of the plot.
        points: records, each with the number of its group.
        groups: `_Group`s. fronts: cost -> for each group, indices of the points on its front.
        x: cost -> `Scale`. The first one is shown. y: `Scale` of accuracies in per cent.
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
        """Shares of the width and the height, from the upper left corner; what is below the axis is on it."""
        return self.x[cost].share(point["costs"][cost]), min(1.0, 1 - self.y.share(100 * point["accuracy"]))


def _staircase(places: Sequence[tuple[float, float]], reach: float) -> str:
    """Between two subnets of a front, and beyond the last, nothing better is known: so the line is a staircase."""
    (left, top), *rest = [(1000 * x, 1000 * y) for x, y in places]
    steps = "".join(f"H{x:.2f}V{y:.2f}" for x, y in rest)
    return stretched(f"M{left:.2f} {top:.2f}{steps}H{1000 * reach:.2f}", class_="line")


def _marker(name: str, group: _Group, **attributes: Any) -> str:
    return tag("use", href=f"#{name}-mark{group.number}", **attributes)


def _choices(name: str, costs: Sequence[str]) -> str:
    """Radio buttons, shown by the script that makes them work."""
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
        words.append(f"All subnets on a front are drawn, in all {len(plot.points):,} of {scored:,} scored.")
    if below := sum(map(plot.below, plot.points)):
        words.append(f"{below:,} below the axis: rings on it.")
    return " ".join(words)
