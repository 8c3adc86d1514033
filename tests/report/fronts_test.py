"""The plot of the fronts as Python draws it, without a browser."""

import json
import math
import re

import pytest

from tests.report.conftest import by_bits, drawing, front_of, scored
from tfqnas import report
from tfqnas.search import pareto_front


def data_of(item):
    return json.loads(re.search(r'<script type="application/json" id="fronts-data">(.*?)</script>', item.markup)[1])


def number_of(data, cost, share):
    """The cost at a share of the plot's width."""
    scale = data["costs"][cost]
    if scale["log"]:
        return scale["low"] * (scale["high"] / scale["low"]) ** share
    return scale["low"] + share * (scale["high"] - scale["low"])


def accuracy_of(data, share):
    """The accuracy at a share of the plot's height, from above."""
    return (data["y"]["high"] - share * (data["y"]["high"] - data["y"]["low"])) / 100


def share(text):
    return float(text.rstrip("%")) / 100


@pytest.fixture
def plot(tiny, records):
    return report.fronts_plot(tiny, records, pareto_front)


def test_the_data_are_the_records(plot, records):
    points = data_of(plot)["points"]
    assert [{k: v for k, v in point.items() if k != "group"} for point in points] == records
    assert [data_of(plot)["groups"][point["group"]] for point in points] == [f"{r['bits']} bits" for r in records]


def test_each_dot_stands_where_its_record_says(plot, records):
    data, dots = data_of(plot), drawing(plot).findall(".//circle")
    assert sorted(int(dot.get("data-i")) for dot in dots) == list(range(len(records)))
    for dot in dots:
        record = records[int(dot.get("data-i"))]
        cost = number_of(data, "effective_mflops", share(dot.get("cx")))
        assert cost == pytest.approx(record["costs"]["effective_mflops"], rel=1e-4)
        lowest = data["y"]["low"] / 100
        assert accuracy_of(data, share(dot.get("cy"))) == pytest.approx(max(lowest, record["accuracy"]), abs=1e-6)
        assert (dot.get("class") == "below") == (record["accuracy"] < lowest)


@pytest.mark.parametrize("cost", ["effective_mflops", "mmacs", "params"])
def test_the_marks_are_the_front_of_each_bit_width_and_cost(plot, records, cost):
    data = data_of(plot)
    lines = [g for g in drawing(plot).iter("g") if g.get("data-cost") == cost and g.get("class") == "front"]
    assert [line.get("hidden") for line in lines] == [None if cost == "effective_mflops" else ""] * 3
    for line, group in zip(lines, by_bits(records).values(), strict=True):
        marks = line.findall("use")
        assert [records[int(mark.get("data-i"))] for mark in marks] == front_of(group, cost)
        for mark in marks:
            record = records[int(mark.get("data-i"))]
            assert number_of(data, cost, share(mark.get("x"))) == pytest.approx(record["costs"][cost], rel=1e-4)


def test_a_line_is_a_staircase_through_its_marks(plot):
    for line in drawing(plot).findall(".//g[@class='front']"):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", line.find("svg/path").get("d"))]
        corners = list(zip(numbers[0::2], numbers[1::2], strict=False))  # the last number is the line's end
        marks = [(10 * float(m.get("x")[:-1]), 10 * float(m.get("y")[:-1])) for m in line.findall("use")]
        assert [pytest.approx(corner, abs=0.01) for corner in corners] == marks


def test_a_score_that_was_given_up_early_is_on_no_front(tiny, records):
    lucky = {**records[0], "accuracy": 1.0, "images": 200}
    plot = report.fronts_plot(tiny, [lucky, *records[1:]], pareto_front)
    marks = drawing(plot).iter("use")
    assert "0" not in {mark.get("data-i") for mark in marks}


def test_of_many_subnets_all_of_the_fronts_are_drawn(tiny, records):
    plot = report.fronts_plot(tiny, records, pareto_front, limit=5)
    kept = data_of(plot)["points"]
    whole = report.fronts_plot(tiny, records, pareto_front)
    marked = {records[int(mark.get("data-i"))]["key"] for mark in drawing(whole).iter("use")}
    assert marked <= {point["key"] for point in kept}
    assert len(kept) < len(records)
    assert f"{len(kept)} of {len(records)} scored subnets" in plot.markup


def test_only_costs_that_all_have_can_be_chosen(tiny, records):
    measured = [{**r, "costs": {**r["costs"], "latency_ms": 1.0}} for r in records]
    known = ["effective_mflops", "mmacs", "params"]
    assert list(data_of(report.fronts_plot(tiny, measured, pareto_front))["costs"]) == [*known, "latency_ms"]
    some = [*measured[:-1], records[-1]]
    assert list(data_of(report.fronts_plot(tiny, some, pareto_front))["costs"]) == known


@pytest.mark.parametrize(
    ("all_bits", "count"), [((4,), 1), ((2,), 2), ((8, 7, 6, 5, 4, 3, 2), 5)], ids=["one", "two", "seven bit widths"]
)
def test_few_subnets_and_many_bit_widths_are_drawn(tiny, all_bits, count):
    plot = report.fronts_plot(tiny, scored(tiny, all_bits, count), pareto_front, name="other")
    assert len(drawing(plot).findall(".//g[@class='dots']")) == len(all_bits)
    assert 'id="other-data"' in plot.markup


def test_float_is_a_bit_width(tiny, records):
    plot = report.fronts_plot(tiny, [{**r, "bits": None} for r in records[::3]], pareto_front)
    assert data_of(plot)["groups"] == ["float"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 97.0}, "accuracy is 97.0, expected 0 to 1"),
        ({"accuracy": math.nan}, "accuracy is nan"),
        ({"costs": {}}, "a cost that all subnets have"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tiny, records, change, message):
    with pytest.raises(ValueError, match=message):
        report.fronts_plot(tiny, [*records, {**records[0], **change}], pareto_front)


def test_nothing_is_refused(tiny):
    with pytest.raises(ValueError, match="no scored subnets"):
        report.fronts_plot(tiny, [], pareto_front)


def test_words_from_outside_are_escaped(tiny, records):
    plot = report.fronts_plot(tiny, [{**r, "key": "</script>"} for r in records], pareto_front, "a < b", accuracy="<i>")
    assert "a &lt; b" in plot.markup and "&lt;i&gt;" in plot.markup
    assert plot.markup.count("</script>") == 1
