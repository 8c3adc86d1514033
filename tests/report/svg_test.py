"""Axes and elements."""

import math
from xml.etree import ElementTree

import pytest

from tfqnas.report.svg import Scale, number, percent, tag, text, x_axis

RANGES = [(0.06, 1.1), (0.5, 0.6), (86.4, 92.1), (90_970, 258_000), (3, 3), (0, 5), (-0.2, 0.3), (1e-4, 1e5), (7, 71)]


@pytest.mark.parametrize("values", RANGES, ids=str)
def test_ticks_are_few_round_numbers_on_the_axis(values):
    scale = Scale.over(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7 and ticks == sorted(set(ticks))
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert all(len(f"{tick:g}".strip("-0.").replace(".", "").rstrip("0")) <= 3 for tick in ticks)
    assert len({number(tick) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize("values", RANGES, ids=str)
def test_a_scale_goes_from_0_to_1_and_holds_all_values_with_room(values):
    scale = Scale.over(values)
    assert scale.share(scale.low) == 0 and scale.share(scale.high) == pytest.approx(1)
    assert all(0.03 < scale.share(value) < 0.97 for value in values)
    assert scale.log == (0 < 10 * min(values) < max(values))


def test_a_logarithmic_scale_gives_each_factor_the_same_room():
    scale = Scale(1.0, 1000.0, log=True)
    assert [scale.share(x) for x in (1, 10, 100, 1000)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert scale.ticks() == [1, 3, 10, 30, 100, 300, 1000]
    assert Scale(1.0, 100.0, log=True).ticks() == [1, 2, 5, 10, 20, 50, 100]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.05, "0.05"), (0.0, "0"), (12.0, "12"), (150_000.0, "150k"), (1500.0, "1.5k"), (2e6, "2M"), (5e9, "5G")],
)
def test_labels_of_ticks(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_number_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="cx: expected a finite number"):
        tag("circle", cx=wrong)
    with pytest.raises(ValueError, match="finite"):
        percent(wrong)


def test_text_and_attributes_are_escaped():
    made = ElementTree.fromstring(text("a < b & c", class_='"x"', data_i=3, fill=None, dx=0.1 + 0.2))
    assert made.text == "a < b & c" and made.attrib == {"class": '"x"', "data-i": "3", "dx": "0.3"}


def test_ticks_stand_where_their_numbers_are():
    scale = Scale.over([0.06, 1.1])
    axis = ElementTree.fromstring(x_axis(scale, "cost"))
    labels = {t.text: float(t.get("x").rstrip("%")) for t in axis.iter("text") if t.get("class") != "title"}
    assert labels == pytest.approx({f"{tick:g}": 100 * scale.share(tick) for tick in (0.1, 0.2, 0.5, 1.0)}, abs=1e-3)
