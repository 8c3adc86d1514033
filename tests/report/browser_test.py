"""report.html in a real browser: Debian's Chromium, without a window."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report.browser import chromium
from tests.report.conftest import by_bits, front_of

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/chromium.sh"
COSTS = {"effective_mflops": "effective MFLOPs", "mmacs": "million MACs", "params": "parameters"}
# Every dot and every mark that is seen, as [i, x, y]: shares of the plot, from its upper left corner.
SEEN = """(() => {
  const svg = document.querySelector(".plot"), {width, height} = svg.getBoundingClientRect();
  const seen = (selector, x, y) => [...svg.querySelectorAll(selector)].filter(e => e.getClientRects().length)
    .map(e => [+e.dataset.i, e[x].baseVal.value / width, e[y].baseVal.value / height]);
  return {dots: seen(".dots circle", "cx", "cy"), marks: seen(".front use", "x", "y"),
          data: JSON.parse(document.getElementById("fronts-data").textContent)};
})()"""
TIP = "(tip => tip.hidden ? '' : tip.innerText)(document.querySelector('.tip'))"


@pytest.fixture(scope="module")
def browser():
    found = subprocess.run([SCRIPT], capture_output=True, text=True)
    if found.returncode:  # no browser, no Debian registry: nothing else is skipped
        pytest.skip(f"Chromium cannot be had: {found.stderr.strip()}")
    with chromium(found.stdout.strip()) as browser:
        yield browser


@pytest.fixture
def opened(browser, page):
    """`opened(**settings)`: the page, loaded. None of its tabs may complain or ask for another file."""
    pages = []

    def load(**settings):
        pages.append(browser.page(page, **settings))
        return pages[-1]

    yield load
    for tab in pages:
        assert tab.complaints == []
        assert tab.requests == [page.as_uri()]


def choose(tab, cost):
    tab.click(f"label:has(input[value={cost}])")


def mark(records, record, cost="effective_mflops"):
    """Selector of the mark of a record in the front of a cost."""
    return f'.front[data-cost="{cost}"] [data-i="{records.index(record)}"]'


def assert_plotted(seen, records, cost):
    """The points of the plot are the records, their places by the formula of the axes."""
    data = seen["data"]
    assert [{k: v for k, v in point.items() if k != "group"} for point in data["points"]] == records
    scale, y = data["costs"][cost], data["y"]
    assert sorted(i for i, _, _ in seen["dots"]) == list(range(len(records)))
    expected = sorted(records.index(r) for group in by_bits(records).values() for r in front_of(group, cost))
    assert sorted(i for i, _, _ in seen["marks"]) == expected
    for i, x, down in seen["dots"] + seen["marks"]:
        low, high = scale["low"], scale["high"]
        value = low * (high / low) ** x if scale["log"] else low + x * (high - low)
        assert value == pytest.approx(records[i]["costs"][cost], rel=1e-3)
        accuracy = y["high"] - down * (y["high"] - y["low"])
        assert accuracy == pytest.approx(max(100 * records[i]["accuracy"], y["low"]), abs=0.02)


@pytest.mark.slow
def test_the_points_equal_the_data_for_every_cost(opened, records):
    tab = opened()
    for cost, label in [*COSTS.items(), next(iter(COSTS.items()))]:
        choose(tab, cost)
        assert_plotted(tab.evaluate(SEEN), records, cost)
        axes = tab.evaluate(
            "[...document.querySelectorAll('.x.axis .title')].filter(e => e.getClientRects().length)"
            ".map(e => e.textContent)"
        )
        assert axes[0] == label


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 500])
def test_a_hover_tells_what_a_point_is(opened, records, width):
    tab = opened(width=width)
    record = front_of(by_bits(records)[3])[1]
    tab.hover(mark(records, record))
    words = tab.evaluate(TIP)
    arch = record["arch"]
    blocks = [f"{k}×{k} e{e}" for k, e in zip(arch["kernels"], arch["expands"], strict=True)]
    size, params = f"{arch['resolution']} × {arch['resolution']}", f"{record['costs']['params']:,}"
    for word in ["3 bits", f"{record['accuracy']:.2%}", "4,000 images", *COSTS.values(), params, size, record["key"]]:
        assert word in words
    assert all(f"stage {number}" in words for number in (2, 3, 4))
    assert sum(words.count(block) for block in set(blocks)) == len(blocks)
    others = [r for r in records if r["key"] == record["key"] and r["bits"] != 3]
    assert ", ".join(f"{r['bits']} bits {r['accuracy']:.2%}" for r in others) in words.replace("\n", " ")
    tab.mouse(3, 3)
    assert tab.evaluate(TIP) == ""


@pytest.mark.slow
def test_a_click_pins_a_point_and_escape_lets_it_go(opened, records):
    tab = opened()
    first, *_, last = front_of(by_bits(records)[4])
    tab.click(mark(records, first))
    tab.hover(mark(records, last))
    assert first["key"] in tab.evaluate(TIP)
    choose(tab, "params")
    assert first["key"] in tab.evaluate(TIP)
    tab.key("Escape")
    assert tab.evaluate(TIP) == ""
    choose(tab, "effective_mflops")
    tab.click(mark(records, first))
    tab.click(".tip .close")
    assert tab.evaluate(TIP) == ""


@pytest.mark.slow
def test_keys_go_along_the_fronts(opened, records):
    tab = opened()
    front = front_of(by_bits(records)[4])
    tab.evaluate("document.querySelector('.legend button:last-child').focus()")
    tab.key("Tab")
    assert front[0]["key"] in tab.evaluate(TIP)
    tab.key("ArrowRight")
    assert front[1]["key"] in tab.evaluate(TIP)
    tab.key("Enter")
    assert tab.evaluate("document.querySelector('.tip').classList.contains('pinned')")
    tab.key("ArrowDown")
    assert tab.evaluate(TIP).startswith("3 bits")
    label = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("3 bits, ") and label.endswith(" effective MFLOPs")
    tab.key("Tab")  # the whole plot is one stop
    assert tab.evaluate("document.activeElement.closest('.plot')") is None


@pytest.mark.slow
def test_the_legend_hides_and_shows_a_bit_width(opened, records):
    tab = opened()
    tab.click(".legend [data-group='1']")
    seen = tab.evaluate(SEEN)
    assert {records[i]["bits"] for i, _, _ in seen["dots"] + seen["marks"]} == {4, 2}
    choose(tab, "params")
    assert {records[i]["bits"] for i, _, _ in tab.evaluate(SEEN)["marks"]} == {4, 2}
    assert tab.evaluate("document.querySelector(\".legend [data-group='1']\").getAttribute('aria-pressed')") == "false"
    tab.click(".legend [data-group='1']")
    assert_plotted(tab.evaluate(SEEN), records, "params")


@pytest.mark.slow
def test_on_a_phone_nothing_is_wider_than_the_screen_and_a_tap_tells(opened, records):
    tab = opened(width=360, height=740, phone=True)
    assert tab.evaluate("[innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]") == [360] * 3
    sizes = tab.evaluate(
        "[...document.querySelectorAll('svg text')].map(e => e.getBoundingClientRect().height).filter(height => height)"
    )
    assert min(sizes) > 10
    record = front_of(by_bits(records)[2])[-1]
    tab.tap(mark(records, record))
    assert record["key"] in tab.evaluate(TIP)
    tip, plot = (
        tab.evaluate(f"document.querySelector('{name}').getBoundingClientRect().toJSON()") for name in (".tip", ".plot")
    )
    assert tip["top"] > plot["bottom"] and tip["left"] >= 0 and tip["right"] <= 360
    tab.tap(".tip .close")
    assert tab.evaluate(TIP) == ""


@pytest.mark.slow
def test_in_print_there_are_the_plots_and_no_controls(opened, records):
    tab = opened(width=760)
    tab.print_media()
    assert tab.evaluate("document.querySelector('.choices').getClientRects().length") == 0
    assert_plotted(tab.evaluate(SEEN), records, "effective_mflops")
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000


@pytest.mark.slow
def test_without_javascript_everything_is_drawn(browser, page, records):
    tab = browser.page(page, scripts=False)
    assert_plotted(tab.evaluate(SEEN), records, "effective_mflops")
    assert tab.evaluate("document.querySelector('.choices').getClientRects().length") == 0
    assert tab.evaluate("document.querySelector('.tip')") is None


@pytest.mark.slow
def test_the_browser_refuses_what_comes_from_elsewhere(browser, page, tmp_path):
    """That the policy is seen in `complaints`: then their absence in the other tests says something."""
    path = tmp_path / "foreign.html"
    path.write_text(page.read_text().replace("</body>", '<script src="other.js"></script></body>'))
    assert "Content Security Policy" in json.dumps(browser.page(path).complaints)


def script(tmp_path, **environment):
    """`scripts/chromium.sh` on a machine without a browser and without Debian's tools."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    environment = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment}
    return subprocess.run([shutil.which("bash"), SCRIPT], env=environment, capture_output=True, text=True)


def test_a_machine_without_a_browser_is_told_what_it_needs(tmp_path):
    done = script(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "chromium: expected Debian's apt-get, or chromium on PATH\n"


def test_a_browser_that_is_there_is_taken(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("google-chrome", "mine"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    assert script(tmp_path).stdout == f"{tmp_path}/bin/google-chrome\n"
    assert script(tmp_path, TFQNAS_CHROMIUM="mine").stdout == f"{tmp_path}/bin/mine\n"
    assert "TFQNAS_CHROMIUM=none is no command" in script(tmp_path, TFQNAS_CHROMIUM="none").stderr
