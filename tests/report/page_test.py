"""Tables, and the page that needs no other file."""

import json
import re

import pytest

from tfqnas import report
from tfqnas.report.page import data_script

ROWS = [{"arch": "small", "bits": 2, "accuracy": 0.5}, {"arch": "x<y", "bits": 16, "accuracy": None}]
COLUMNS = ["arch", "bits", ("accuracy", "top 1", ".1%")]


def test_a_table_is_aligned_numbers_to_the_right():
    assert report.table(ROWS, COLUMNS).splitlines() == [
        "arch   bits  top 1",
        "-----  ----  -----",
        "small     2  50.0%",
        "x<y      16      -",
    ]


def test_a_table_without_rows_has_its_head():
    assert report.table([], COLUMNS).splitlines() == ["arch  bits  top 1", "----  ----  -----"]


def test_the_page_needs_no_other_file_and_escapes_text(tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"a picture")
    items = [
        "a < b & c",
        report.Picture(picture, 'the "front"'),
        report.Table(ROWS, COLUMNS, "subnets"),
        report.Code("a <b>"),
    ]
    path = report.write_html(tmp_path / "report.html", "4 < 8 $body {body}", [report.Section("Results", items)])
    page = path.read_text()
    assert re.findall(r'(?:src|href)="(.{11})', page) == ["data:image/"]
    for text in ("a &lt; b &amp; c", "x&lt;y", "a &lt;b&gt;", "<td class=n>50.0%</td>", "<h2>Results</h2>"):
        assert text in page
    assert page.count("<section>") == 1


def test_an_item_that_is_none_of_the_kinds_is_named(tmp_path):
    with pytest.raises(TypeError, match="not int"):
        report.write_html(tmp_path / "a.html", "t", [report.Section("s", [3])])


def test_a_script_is_in_the_page_once_and_markup_as_it_is(tmp_path):
    items = [report.Html("<b>one</b>", ("fronts.js",)), report.Html("<b>two</b>", ("fronts.js",))]
    page = report.write_html(tmp_path / "a.html", "t", [report.Section("s", items)]).read_text()
    assert page.count("<script>") == 1
    assert 0 < page.find("<b>one</b>") < page.find("<b>two</b>") < page.index("<script>")


def test_the_browser_is_told_to_load_nothing_from_elsewhere(tmp_path):
    page = report.write_html(tmp_path / "a.html", "t", []).read_text()
    assert "Content-Security-Policy\" content=\"default-src 'none'; img-src data:;" in page
    assert not re.search(r"https?:", page)


@pytest.mark.parametrize("value", [{"a": "</script><b>"}, ["<!-- <script"], {"x": [1.5, None, "ä\u2028"]}])
def test_data_in_the_page_cannot_end_its_element(value):
    script = data_script("numbers", value)
    (inside,) = re.fullmatch(r'<script type="application/json" id="numbers">(.*)</script>', script).groups()
    assert "<" not in inside
    assert json.loads(inside) == value


def test_data_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        data_script("numbers", [float("nan")])
