"""Scored subnets as a search leaves them, and a page of everything that can stand in one."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tfqnas import cost, report, spaces
from tfqnas.search import kendall_tau, pareto_front


def scored(space, all_bits=(4, 3, 2), count=40, seed=0, images=4000):
    """Records for `fronts_plot`: `count` subnets, each at all bit widths."""
    rng = np.random.default_rng(seed)
    records = []
    for arch in dict.fromkeys(space.sample(rng) for _ in range(count)):
        for bits in all_bits:
            found = cost.count(space, arch, bits=bits, num_classes=10, in_channels=1)
            mmacs = found.macs / 1e6
            costs = {"effective_mflops": found.effective_flops / 1e6, "mmacs": mmacs, "params": found.params}
            right = round(images * (0.95 - 0.02 * (bits == 2) - 0.05 / mmacs - abs(rng.normal(0, 0.01))))
            records.append(
                {
                    "bits": bits,
                    "arch": json.loads(arch.to_json()),
                    "key": arch.key,
                    "accuracy": right / images,
                    "costs": costs,
                    "images": images,
                    "on_front": False,
                }
            )
    return records


@pytest.fixture(scope="session")
def tiny():
    return spaces.get("tiny")


@pytest.fixture(scope="session")
def records(tiny):
    return scored(tiny)


def by_bits(records):
    return {bits: [r for r in records if r["bits"] == bits] for bits in dict.fromkeys(r["bits"] for r in records)}


def front_of(records, by="effective_mflops"):
    return [records[i] for i in pareto_front([r["costs"][by] for r in records], [r["accuracy"] for r in records])]


@pytest.fixture(scope="session")
def page(tiny, records, tmp_path_factory):
    """The path of a page with all kinds of plots."""
    groups = by_bits(records)
    pairs = [(a["accuracy"], b["accuracy"]) for a, b in zip(groups[4], groups[2], strict=True)]
    tau = kendall_tau(*zip(*pairs, strict=True))
    fronts = {bits: front_of(group) for bits, group in groups.items()}
    archs = {"smallest": tiny.smallest(), "largest": tiny.largest()}
    sections = [
        report.Section("Fronts", [report.fronts_plot(tiny, records, pareto_front, "A caption.")]),
        report.Section("Along", [report.distributions(tiny, fronts)]),
        report.Section("Chosen", [report.architecture_drawing(tiny, archs)]),
        report.Section("Agreement", [report.scatter(pairs, "4 bits", "2 bits", tau, 0.02)]),
        report.Section("Table", [report.Table([{"key": records[0]["key"]}] * 3, ["key"])]),
    ]
    return report.write_html(tmp_path_factory.mktemp("page") / "report.html", "A report", sections)


def drawing(item, css_class="plot"):
    """The element tree of the SVG of a class in an `Html`; it is well formed and has no number that is none."""
    markup = re.search(rf'<svg class="{css_class}".*?</svg>(?=</?(?:div|figure))', item.markup, re.DOTALL)[0]
    assert not re.search(r"\b(nan|inf|None)\b", markup)
    return ElementTree.fromstring(markup)
