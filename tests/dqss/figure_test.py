"""The figure of a search: a row a tensor, a column a candidate, and how the coefficients moved."""

import itertools
import xml.etree.ElementTree

import PIL.Image
import pytest

from tfqnas.dqss.candidates import defaults
from tfqnas.report import strategies
from tfqnas.report.canvas import new_figure
from tfqnas.report.strategies import strategies_figure


def record(layers, steps=5):
    names = {"weights": ["lsq", "mse_per_channel"], "inputs": ["lsq", "pact", "mse"]}
    choices, searched = [], []
    for number in range(layers):
        for role, own in names.items():
            shares = {name: 1 / len(own) for name in own}
            choices.append(
                {
                    "layer": f"block_{number}",
                    "role": role,
                    "bits": 4,
                    "strategy": own[-1],
                    "coefficient": shares[own[-1]],
                    "candidates": shares,
                }
            )
            searched.append([f"block_{number}", role, own])
    history = [
        {"step": s, "loss": 1.0, "coefficients": [[1 / len(own)] * len(own) for _, _, own in searched]}
        for s in range(steps)
    ]
    return {"choices": choices, "searched": searched, "history": history}


def heights(found, path):
    with PIL.Image.open(strategies_figure(found, path, "title")[1]) as image:
        return image.height


def test_it_has_a_row_for_each_layer_and_curves_where_something_was_searched(tmp_path):
    files = strategies_figure(record(3), tmp_path / "strategies", "DQSS of a network")
    assert [file.name for file in files] == ["strategies.svg", "strategies.png"]
    assert xml.etree.ElementTree.parse(files[0]).getroot().tag.endswith("svg")
    single = {**record(3), "history": [], "searched": []}
    assert (
        heights(single, tmp_path / "one")
        < heights(record(3), tmp_path / "two")
        < heights(record(20), tmp_path / "three")
    )


def test_the_names_of_all_default_candidates_are_readable():
    figure = new_figure(5.4, 3)
    axes = figure.add_subplot()
    names = defaults("weights")
    shares = {name: 1 / len(names) for name in names}
    choice = {"layer": "block", "bits": 4, "strategy": "lsq", "coefficient": 0.1, "candidates": shares}
    strategies._heat_map(axes, "weights", [choice], list(names))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert len(boxes) == len(names)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_the_same_record_makes_the_same_png(tmp_path):
    files = [strategies_figure(record(2), tmp_path / name, "title")[1].read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_a_candidate_that_no_record_knows_is_an_error(tmp_path):
    found = record(1)
    found["choices"][0]["strategy"] = "dsq"
    with pytest.raises(ValueError, match="dsq"):
        strategies_figure(found, tmp_path / "strategies", "title")
