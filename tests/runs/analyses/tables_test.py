"""What tables say of given scores."""

import json
import types

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.errors import UserError
from tfqnas.runs.analyses import depth, drop, transfer
from tfqnas.runs.analyses.analysing import in_text
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.search import ParetoFront, Result

TINY = spaces.get("tiny")


def pair(fat, slim):
    def record(accuracies):
        return {"arch": {}, "mmacs": 1.0, "accuracies": accuracies, "effective_mflops": [1.0, 0.2, 0.1]}

    return {"resolution": 24, "shallow-fat": record(fat), "deep-slim": record(slim)}


DROPS = {
    "bits": [None, 4, 2],
    "note": "a note",
    "pairs": [pair([0.90, 0.89, 0.85], [0.92, 0.90, 0.80]), pair([0.94, 0.94, 0.91], [0.93, 0.93, 0.85])],
}


def test_drops_are_differences_in_points_with_the_error_of_their_mean():
    rows = {(row["bits"], row["shape"]): row for row in drop.table(DROPS)}
    fat, slim, more = (rows[2, shape] for shape in (*drop.SHAPES, "deep-slim more"))
    assert (fat["source"], fat["here"], fat["drop"]) == pytest.approx((92, 88, 4))
    assert (slim["source"], slim["here"], slim["drop"]) == pytest.approx((92.5, 82.5, 10))
    assert fat["error"] == pytest.approx(1)  # drops 5 and 3: half their distance
    assert (more["drop"], more["error"], more["count"]) == pytest.approx((6, 1, 2))  # 12 - 5 and 8 - 3: 7 and 5
    assert rows[4, "shallow-fat"]["drop"] == pytest.approx(0.5)


def test_a_figure_shows_the_drops_of_its_table():
    panels = drop.panels(DROPS)
    assert list(panels) == [4, 2]
    assert panels[2]["deep-slim"]["points"] == [(0.1, pytest.approx(12)), (0.1, pytest.approx(8))]


def test_sections_say_where_the_source_is_not_floating_point(tmp_path):
    text = in_text([drop.section(DROPS, tmp_path / "drop.png")])
    assert "a note" in text and "deep-slim more" in text and "+6.00" in text


def test_a_budget_gets_the_best_of_each_front_within_it():
    found = transfer.budgets([1, 4], [0.5, 0.7], [2, 3, 8], [0.6, 0.55, 0.9])
    assert [(i, j) for i, j, _ in found] == [(0, 0), (0, 0)]  # from 2 to 4; 3 costs more and is chosen by nobody
    assert [w for _, _, w in found] == pytest.approx([np.log(1.5) / np.log(2), np.log(4 / 3) / np.log(2)])
    assert transfer.budgets([1], [0.5], [2], [0.6]) == [(0, 0, 1.0)]  # no budget that both meet but the dearer's


def test_a_front_loses_nothing_to_itself(rng):
    costs, scores = np.sort(rng.uniform(1, 9, 7)), np.sort(rng.uniform(0.5, 0.9, 7))
    found = transfer.budgets(costs, scores, costs, scores)
    assert all(i == j for i, j, _ in found) and sum(w for _, _, w in found) == pytest.approx(1)


class Known:
    """Fronts and scores that are given, in the place of `Supernets`."""

    bits, source, source_note = (None, 2), None, ""

    def __init__(self, fronts, outcomes):
        self._fronts, self._outcomes, self.run = fronts, outcomes, self
        self.costs = types.SimpleNamespace(of=self.cost)

    def above(self, bits):
        return self.bits[: self.bits.index(bits)]

    def front(self, bits):
        return self._fronts.get(bits)

    def searched(self, bits):
        return list(self._fronts[bits].rows)

    def cost(self, arch, bits):
        return {"effective_mflops": float(arch.resolution) * sum(arch.depths), "kB": 1.0}

    def outcomes(self, bits, arch, split="held_out"):
        return self._outcomes.get((bits, arch, split))

    def accuracy(self, bits, arch, split="held_out"):
        outcomes = self.outcomes(bits, arch, split)
        return None if outcomes is None else float(outcomes.mean())


@pytest.fixture
def known(rng):
    """Fronts of one subnet each, of one cost: at 2 bits the float one's is right on 60% of images, its own on 70%."""
    arch, other = (TINY.decode(np.where(np.arange(len(TINY.genes)) == 3, i, 0)) for i in (0, 1))
    fronts = {
        bits: ParetoFront((Result(chosen, accuracy, {"effective_mflops": 1.0}),), "effective_mflops")
        for bits, chosen, accuracy in ((None, arch, 0.9), (2, other, 0.72))
    }
    places = np.arange(100)
    outcomes = {(2, arch, "held_out"): places < 60, (2, arch, "test"): places < 60, (2, other, "test"): places < 70}
    return Known(fronts, outcomes)


def test_what_moving_a_front_loses_and_how_sure_that_is(known):
    (panel,) = transfer.result(known, AnalysisConfig())
    (moved,) = panel["moved"]
    assert (panel["bits"], moved["source"]) == (2, None)
    assert moved["gain"]["held_out"] == pytest.approx(12) and moved["gain"]["test"] == pytest.approx(10)
    # Of 100 images 10 differ: the error of a share of a tenth.
    assert moved["gain"]["test_error"] == pytest.approx(100 * np.sqrt(0.1 * 0.9 / 99))
    json.dumps(panel, allow_nan=False)
    wanted = dict(transfer.wants(known, AnalysisConfig(), 2))
    assert [len(wanted[split]) for split in ("held_out", "test")] == [1, 2]
    assert dict(transfer.wants(known, AnalysisConfig(), None)) == {"held_out": [], "test": []}


def test_a_front_that_is_not_scored_yet_is_left_out(known):
    known._outcomes = {}
    assert transfer.result(known, AnalysisConfig()) == []


def test_depths_are_blocks_of_stages_with_a_choice(known):
    known.space = TINY
    found = depth.result(known, AnalysisConfig())
    assert found["range"] == [3, 6] and [front["depths"] for front in found["fronts"]] == [[3], [3]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"only": ("rank",)}, "only: expected some of transfer, .*received rank, did you mean ranking"),
        ({"subnets": 3}, "subnets: expected a whole number from 4 on, received 3"),
        ({"alone": 2}, "alone: expected 0 or a whole number from 3 on"),
        ({"alone_bits": 1}, "alone_bits: expected 0 or a whole number from 2 to 16, received 1"),
        ({"alone_epochs": -1.0}, "alone_epochs"),
        ({"float_supernet_epochs": -1.0}, "float_supernet_epochs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        AnalysisConfig(**settings)
