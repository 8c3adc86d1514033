"""Drawings of architectures, distributions along fronts, agreement of scores."""

import itertools
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.report.conftest import by_bits, drawing, front_of
from tfqnas import report, spaces
from tfqnas.arch import Arch
from tfqnas.report.style import COLOURS, kernel_colours, space_kernel_colours


@pytest.mark.parametrize("name", spaces.names())
def test_a_drawing_has_a_bar_for_each_block_as_high_as_its_hidden_width(name):
    space = spaces.get(name)
    archs = {"smallest": space.smallest(), "a < b": space.sample(np.random.default_rng(1)), "largest": space.largest()}
    rows = drawing(report.architecture_drawing(space, archs), "drawing").findall("g")
    widest = max(block.hidden for arch in archs.values() for block in space.blocks(arch))
    for row, (label, arch) in zip(rows, archs.items(), strict=True):
        blocks, bars, words = space.blocks(arch), row.findall("rect"), [t.text for t in row.iter("text")]
        assert words[0] == label and len(bars) == len(blocks)
        for block, bar in zip(blocks, bars, strict=True):
            assert float(bar.get("height")) == pytest.approx(max(2.0, 70 * block.hidden / widest), abs=1e-3)
            assert bar.get("fill") == space_kernel_colours(space)[block.kernel]
        assert words.count("SE") == sum(block.se_channels > 0 for block in blocks)
        for kernel in set(arch.kernels):
            assert words.count(f"{kernel}×{kernel}") == sum(block.kernel == kernel for block in blocks)
        for ratio in set(arch.expands):
            fixed = sum(stage.fixed and stage.expands[0] == ratio for stage in space.stages)
            assert words.count(f"e{ratio}") == arch.expands.count(ratio) + fixed


def test_blocks_of_a_mixture_have_their_bit_widths_below_them_inside_of_the_drawing():
    space = spaces.get("tiny_qfa")
    arch = space.sample(np.random.default_rng(2))
    tree = drawing(report.architecture_drawing(space, {"a": arch, "b": space.smallest()}), "drawing")
    row = tree.find("g")
    words = [t.text for t in row.iter("text")]
    for block in space.blocks(arch):
        weights, inputs = ("".join(map(str, widths)) for widths in zip(*block.bits, strict=True))
        assert f"w{weights}" in words and f"a{inputs}" in words
    height = float(tree.get("viewBox").split()[3]) / 2
    assert max(float(t.get("y")) for t in row.iter("text")) < height
    assert "bits of weights and inputs" in report.architecture_drawing(space, {"a": arch}).markup
    plain = spaces.get("tiny")
    assert "bits of weights" not in report.architecture_drawing(plain, {"a": plain.largest()}).markup


def test_bit_widths_of_mixtures_are_distributed_along_their_front():
    space, rng = spaces.get("tiny_qfa"), np.random.default_rng(0)
    rows = [record(space.sample(rng), mflops) for mflops in (0.1, 0.2, 0.3)]
    page = report.distributions(space, {"mixed": rows}).markup
    mean = np.mean([pair[0] for pair in rows[0]["arch"]["bits"]])
    assert f"weight bits along the front of mixed: {mean:.4g} on average in the cheapest subnet" in page
    assert "input bits along the front" in page


def test_a_stage_is_labelled_with_what_it_puts_out(tiny):
    words = [t.text for t in drawing(report.architecture_drawing(tiny, {"a": tiny.largest()}), "drawing").iter("text")]
    assert [word for word in words if word.count("×") == 2] == ["16×16×16", "8×8×24", "4×4×40", "4×4×64"]


def test_bars_of_one_drawing_do_not_overlap():
    space = spaces.get("mbv3")
    item = report.architecture_drawing(space, {"a": space.largest(), "b": space.smallest()})
    tree = drawing(item, "drawing")
    for row in tree.findall("g"):
        lefts = [float(bar.get("x")) for bar in row.findall("rect")]
        assert all(b - a >= 30 for a, b in itertools.pairwise(lefts))
        assert lefts[-1] + 30 <= float(tree.get("width"))


def test_an_architecture_of_another_space_is_refused(tiny):
    with pytest.raises(ValueError, match="of the space 'mbv2'"):
        report.architecture_drawing(tiny, {"a": spaces.get("mbv2").smallest()})
    with pytest.raises(ValueError, match="no architectures"):
        report.architecture_drawing(tiny, {})


def record(arch, mflops):
    return {"arch": json.loads(arch.to_json()), "costs": {"effective_mflops": mflops}}


def panels(item):
    """The cells of each panel as {(column, row from above): share}, panels in the order of reading."""
    found = []
    for markup in re.findall(r'<svg class="strip".*?</svg></svg>|<svg class="strip".*?</svg>(?=<div)', item.markup):
        cells = {}
        for rect in ElementTree.fromstring(markup).iter("rect"):
            x, y, w, h = (float(rect.get(key).rstrip("%")) for key in ("x", "y", "width", "height"))
            cells[round(x / w), round(y / h)] = round((float(rect.get("fill-opacity")) - 0.1) / 0.8, 3)
        found.append(cells)
    return found


def test_a_cell_is_the_share_of_the_blocks_that_have_the_choice(tiny):
    arch = Arch(tiny.name, 28, (2, 1, 1), (3, 5, 3, 5), (3, 4, 6, 6))
    item = report.distributions(tiny, {4: [record(tiny.smallest(), 0.1), record(arch, 0.2)], 2: [record(arch, 0.1)]})
    resolution, _, depth, _, expand, _, kernel, last = panels(item)
    assert resolution == pytest.approx({(0, 2): 1, (1, 1): 1})  # 32, 28, 24 from above
    assert depth == pytest.approx({(0, 1): 1, (1, 0): 0.333, (1, 1): 0.667})
    assert expand == pytest.approx({(0, 2): 1, (1, 0): 0.5, (1, 1): 0.25, (1, 2): 0.25})
    assert kernel == pytest.approx({(0, 1): 1, (1, 0): 0.5, (1, 1): 0.5})
    assert last == pytest.approx({(0, 0): 0.5, (0, 1): 0.5})


def test_neighbours_on_a_long_front_share_a_column(tiny, records):
    item = report.distributions(tiny, {4: by_bits(records)[4]})
    for cells in panels(item):
        assert {column for column, _ in cells} == set(range(12))
        for column in range(12):
            assert sum(share for (c, _), share in cells.items() if c == column) == pytest.approx(1, abs=0.01)


def test_bit_widths_have_the_colours_that_they_have_in_the_plot(tiny, records):
    markup = report.distributions(tiny, {bits: front_of(group) for bits, group in by_bits(records).items()}).markup
    assert all(markup.count(f'fill="{colour}"') == 4 for colour in COLOURS[:3])
    with pytest.raises(ValueError, match="no fronts"):
        report.distributions(tiny, {4: []})


def test_kernel_sizes_have_colours_of_their_own():
    colours = kernel_colours([7, 3, 5, 3])
    assert list(colours) == [3, 5, 7] and len(set(colours.values())) == 3
    assert not set(colours.values()) & set(COLOURS[:3])


def dots(item):
    return [tuple(float(c.get(k).rstrip("%")) / 100 for k in ("cx", "cy")) for c in drawing(item).iter("circle")]


def test_a_scatter_of_equal_scores_is_a_diagonal():
    item = report.scatter([(0.5, 0.5), (0.6, 0.6), (0.8, 0.8)], "measured", "predicted", 1.0, 0.0)
    assert all(x == pytest.approx(1 - y) for x, y in dots(item))
    assert "3 subnets; Kendall's tau 1.00; mean absolute error 0.00 points." in item.markup.replace("&#x27;", "'")
    assert 'class="equal"' in item.markup


def test_scores_of_different_things_have_an_axis_each():
    item = report.scatter([(0.5, 0.1), (0.9, 0.2)], "4 bits", "2 bits", 1.0, same=False, caption="x < y")
    assert dots(item) == [pytest.approx((1 / 27, 26 / 27), abs=1e-5), pytest.approx((26 / 27, 1 / 27), abs=1e-5)]
    assert 'class="equal"' not in item.markup and "x &lt; y" in item.markup


@pytest.mark.parametrize("pairs", [[], [(0.5, 50.0)], [(0.5, float("nan"))]], ids=str)
def test_a_scatter_of_no_fractions_is_refused(pairs):
    with pytest.raises(ValueError, match="expected pairs of accuracies"):
        report.scatter(pairs, "a", "b")
