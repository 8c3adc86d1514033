"""The figures of the analyses, with all that may be missing."""

import matplotlib.image
import numpy as np
import pytest

from tfqnas.report import comparisons


def assert_picture(path, width=500):
    image = matplotlib.image.imread(path)
    assert image.shape[1] > width and np.mean(image[..., :3].min(axis=-1) < 0.9) > 0.005  # not white


def rows(rng, count=4):
    return [
        {"cost": c, "accuracy": a} for c, a in zip(rng.uniform(1, 20, count), rng.uniform(0.8, 0.9, count), strict=True)
    ]


@pytest.mark.parametrize("gain", [{"held_out": 0.4}, {"held_out": -0.4, "test": -0.0, "test_error": None}])
def test_moved_fronts(tmp_path, rng, gain):
    moved = [{"source": source, "rows": rows(rng), "gain": gain} for source in (None, 4)]
    panel = {"bits": 2, "by": "kB", "front": rows(rng), "moved": moved, "scored": [(2.0, 0.7), (3.0, 0.8)]}
    assert_picture(comparisons.moved_figure([panel, {**panel, "bits": 3}], tmp_path / "a.png", "Title"))
    with pytest.raises(ValueError, match="nothing to compare"):
        comparisons.moved_figure([], tmp_path / "b.png", "Title")


def test_drops(tmp_path, rng):
    record = {"points": [(1.0, 0.2), (2.0, -0.3)], "drop": -0.05, "error": 0.1}
    panels = {bits: {"shallow-fat": record, "deep-slim": {**record, "error": None}} for bits in (4, 2)}
    assert_picture(comparisons.drops_figure(panels, tmp_path / "a.png", "Title"))


@pytest.mark.parametrize("groups", [{None: [3, 4, 4], 4: [5], 2: [3, 3]}, {2: [20]}])
def test_depths(tmp_path, groups):
    assert_picture(comparisons.depths_figure(groups, (3, 20), tmp_path / "a.png", "Title"))


@pytest.mark.parametrize("labels", [(4, 2), (None, 8, 4, 3, 2)])
def test_rankings(tmp_path, rng, labels):
    scores = {label: rng.uniform(0.8, 0.9, 12) for label in labels}
    found = {"tau": -0.2, "low": None, "high": 0.4}
    taus = {(a, b): found for i, a in enumerate(labels) for b in labels[i + 1 :]}
    halves = dict.fromkeys(labels)
    assert_picture(comparisons.ranking_figure(scores, taus, halves, rng.uniform(1, 2, 12), tmp_path / "a.png", "Title"))


def test_together_and_alone(tmp_path):
    points = [(0.8, 0.81, 1.0), (0.82, 0.8, 2.0), (0.83, 0.9, 4.0)]
    found = {"tau": None, "low": None, "high": None}
    assert_picture(comparisons.alone_figure(points, found, tmp_path / "a.png", "Title"))


def test_a_change_has_a_sign_and_nothing_has_none():
    assert [comparisons._change(v) for v in (0.456, -0.456, -0.001)] == ["+0.46", "\N{MINUS SIGN}0.46", "0.00"]
