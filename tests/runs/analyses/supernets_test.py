"""Scores that are kept, without a network."""

import types

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.scoring.score import Score
from tfqnas.train.run_config import RunConfig

TINY = spaces.get("tiny")


def supernets_in(directory, **settings):
    config = RunConfig(**settings)
    networks = types.SimpleNamespace(identity=lambda bits: f"the supernet of {bits} bits")
    run = types.SimpleNamespace(
        directory=directory, config=config, bit_widths=config.bits, space=TINY, networks=networks
    )
    return Supernets(run)


class Counted:
    """A scorer that says of each architecture which of 20 images are below the number of its blocks; it may stop."""

    def __init__(self, stop=None):
        self.asked, self._stop = [], stop

    def score(self, archs):
        for index, arch in enumerate(archs):
            if self._stop == len(self.asked):
                raise KeyboardInterrupt
            self.asked.append(arch)
            outcomes = np.arange(20) < sum(arch.depths)
            yield index, Score(outcomes.mean(), 20, outcomes)


@pytest.fixture
def archs(rng):
    return list(dict.fromkeys(TINY.sample(rng) for _ in range(30)))


def test_a_stopped_scoring_goes_on_where_it_was(tmp_path, archs, monkeypatch):
    first, second = Counted(stop=17), Counted()
    stopped = supernets_in(tmp_path)
    monkeypatch.setattr(stopped, "_scorer_of", lambda bits: first)
    with pytest.raises(KeyboardInterrupt):
        stopped.score(2, archs)
    with open(tmp_path / "analysis" / "scores" / "b2_held_out.jsonl", "a") as file:
        file.write('{"arch": {"sp')  # what a kill may leave
    resumed = supernets_in(tmp_path)
    monkeypatch.setattr(resumed, "_scorer_of", lambda bits: second)
    seen = []
    resumed.score(2, archs, on_score=seen.append)
    assert len(first.asked) == 17 and set(first.asked) | set(second.asked) == set(archs)
    assert len(first.asked) + len(second.asked) == len(archs) and seen == second.asked
    again = supernets_in(tmp_path)
    assert not again.missing(2, archs)
    for arch in archs:
        np.testing.assert_array_equal(again.outcomes(2, arch), np.arange(20) < sum(arch.depths))
        assert again.accuracy(2, arch) == sum(arch.depths) / 20


def test_supernets_and_splits_have_scores_of_their_own(tmp_path, archs):
    known = supernets_in(tmp_path)
    known.keep(None, archs[0], np.ones(3, bool), "test")
    assert known.accuracy(None, archs[0], "test") == 1.0
    assert known.accuracy(None, archs[0]) is None and known.accuracy(2, archs[0], "test") is None
    assert known.missing(None, archs[:2], "test") == archs[1:2]


def test_relatives_are_scored_together(tmp_path, archs):
    ordered = supernets_in(tmp_path).missing(2, archs)
    assert sorted(ordered, key=archs.index) == archs
    assert [arch.resolution for arch in ordered] == sorted(arch.resolution for arch in archs)


def test_floating_point_comes_first_where_the_run_has_it(tmp_path):
    without, with_it = (
        supernets_in(tmp_path, bits=(4, 2)),
        supernets_in(tmp_path, bits=(4, 2), float_supernet_epochs=1.0),
    )
    assert (without.bits, without.source) == ((4, 2), 4) and "4-bit supernet takes that place" in without.source_note
    assert (with_it.bits, with_it.source, with_it.source_note) == ((None, 4, 2), None, "")
    assert with_it.pairs() == [(None, 4), (None, 2), (4, 2)] and with_it.above(2) == (None, 4)
