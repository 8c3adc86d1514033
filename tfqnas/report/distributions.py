"""Shows the choices of the subnets along a front, as panels with one row per choice and one column per subnet."""

import html
import itertools
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from operator import itemgetter
from typing import Any

from tfqnas.report.page import Html, Record
from tfqnas.report.shown import Space
from tfqnas.report.style import COLOURS, Label, bits_label, cost_label
from tfqnas.report.svg import number, percent, stretched, tag, text

_ROW, _HIGHEST = 20, 132  # height of a row, and greatest height of a panel, in pixels
_MOST = 12  # greatest number of columns


def distributions(
    space: Space, fronts: Mapping[Any, Sequence[Record]], by: str = "effective_mflops", caption: str = ""
) -> Html:
    """Panels of resolution, depth, expand ratio and kernel size along the front of each bit width.

    A column is a subnet of the front or a few neighbours, with the cheapest on the left. A cell is darker the more of
    their blocks (or stages, for the depth) have the choice of its row. The line is the mean.

    Args:
        space: `SearchSpace`.
        fronts: `{bit width: records}` of its front in ascending cost, with `arch` (its JSON fields) and `costs`.
        by: name of the cost of the fronts.
        caption: a sentence below the panels.

    Raises:
        ValueError: no front has a subnet.
    """
    fronts = {label: rows for label, rows in fronts.items() if rows}
    if not fronts:
        raise ValueError("distributions: there are no fronts")
    rows = "".join(_row(name, values, choices, fronts) for name, values, choices in _dimensions(space))
    heads = "".join(f'<div class="head">{html.escape(bits_label(label))}</div>' for label in fronts)
    feet = "".join(f'<div class="foot">{_ends(records, by)}</div>' for records in fronts.values())
    axis = f'<div class="axis">{html.escape(cost_label(by))}</div>'
    grid = f'<div class="strips" style="--fronts:{len(fronts)}"><div></div>{heads}{rows}{axis}{feet}</div>'
    words = html.escape(" ".join(filter(None, [caption, _CAPTION])))
    return Html(f'<figure class="distributions">{grid}<figcaption>{words}</figcaption></figure>')


_CAPTION = (
    "Along each front, the cheapest subnets on the left. The darker a cell, the larger the share of their blocks (of "
    "their stages, for the depth) that have the choice of its row; the line is the mean."
)


def _row(
    name: str, values: Callable[[Any], Any], choices: tuple[Any, ...], fronts: Mapping[Any, Sequence[Record]]
) -> str:
    """The panels of all fronts for one dimension; `values` is a function of an architecture's fields."""
    panels = "".join(
        _panel(name, label, choices, [_list(values(record["arch"])) for record in records], colour)
        for (label, records), colour in zip(fronts.items(), cycle(COLOURS), strict=False)
    )
    return f'<div class="name"><span>{html.escape(name)}</span>{_choices(choices)}</div>{panels}'


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _dimensions(space: Space) -> list[tuple[str, Callable[[Any], Any], tuple[Any, ...]]]:
    """`(name, function of an architecture's fields, all choices)` of each searched dimension."""
    stages = [space.stages[s] for s in space.searched]

    def union(field: str) -> tuple[Any, ...]:
        return tuple(sorted({choice for stage in stages for choice in getattr(stage, field)}))

    dimensions: list[tuple[str, Callable[[Any], Any], tuple[Any, ...]]] = [
        ("resolution", itemgetter("resolution"), tuple(space.resolutions)),
        ("depth of a stage", itemgetter("depths"), union("depths")),
        ("expand ratio", itemgetter("expands"), union("expands")),
        ("kernel size", itemgetter("kernels"), union("kernels")),
    ]
    if space.weight_bits:
        dimensions += [
            ("weight bits", lambda arch: [pair[0] for pair in arch["bits"]], tuple(space.weight_bits)),
            ("input bits", lambda arch: [pair[1] for pair in arch["bits"]], tuple(space.input_bits)),
        ]
    return dimensions


def _height(choices: Sequence[Any]) -> int:
    return min(_HIGHEST, _ROW * len(choices))


def _middle(i: float, choices: Sequence[Any]) -> float:
    """The vertical place of a choice's row as a fraction from the upper edge; the largest choice is on top."""
    return 1 - (i + 0.5) / len(choices)


def _choices(choices: Sequence[Any]) -> str:
    """The labels of as many rows as there is room for."""
    stride = -(-len(choices) * 13 // _height(choices))
    labels = "".join(
        text(choice, x="100%", y=percent(_middle(i, choices)), dy=".35em", text_anchor="end")
        for i, choice in enumerate(choices)
        if (len(choices) - 1 - i) % stride == 0
    )
    return tag("svg", labels, width=32, height=_height(choices), aria_hidden="true")


def _panel(name: str, label: Label, choices: Sequence[Any], subnets: Sequence[Sequence[Any]], colour: str) -> str:
    """One panel. `subnets` holds for each subnet of the front the values of its blocks, or its single value."""
    columns = _columns(subnets)
    cells, means = [], []
    for c, values in enumerate(columns):
        places = [choices.index(value) for value in values]
        left, right = c / len(columns), (c + 1) / len(columns)
        level = 1000 * _middle(sum(places) / len(places), choices)
        means.append(f"{1000 * left:.2f} {level:.2f}L{1000 * right:.2f} {level:.2f}")
        for i in sorted(set(places)):
            box = {"x": left, "y": 1 - (i + 1) / len(choices), "width": right - left, "height": 1 / len(choices)}
            shade = 0.1 + 0.8 * places.count(i) / len(places)
            cells.append(tag("rect", fill_opacity=shade, **{key: percent(share) for key, share in box.items()}))
    line = "M" + "L".join(means)
    # A white line below the dark one makes it visible on dark cells.
    content = tag("g", "".join(cells), fill=colour) + stretched(line, class_="halo") + stretched(line, class_="mean")
    words = f"{name} along the front of {bits_label(label)}: {_summary(subnets)}"
    return tag("svg", content, class_="strip", width="100%", height=_height(choices), role="img", aria_label=words)


def _columns(subnets: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The values of neighbours joined, so that there are at most `_MOST` columns."""
    count = min(len(subnets), _MOST)
    ends = [round(i * len(subnets) / count) for i in range(count + 1)]
    return [list(itertools.chain(*subnets[first:last])) for first, last in itertools.pairwise(ends)]


def _summary(subnets: Sequence[Sequence[Any]]) -> str:
    first, last = (sum(values) / len(values) for values in (subnets[0], subnets[-1]))
    return f"{first:.4g} on average in the cheapest subnet, {last:.4g} in the dearest"


def _ends(rows: Sequence[Record], by: str) -> str:
    first, last = (number(float(f"{rows[i]['costs'][by]:.2g}")) for i in (0, -1))
    return f"<span>{first}</span><span>{last if len(rows) > 1 else ''}</span>"
