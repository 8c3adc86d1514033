import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.scoring.judge import Judge
from tfqnas.scoring.score import Score
from tfqnas.search import Result

SPACE = spaces.get("tiny")


class Recorded:
    """A scorer of given outcomes that keeps what it was asked."""

    def __init__(self, outcomes):
        self.outcomes, self.asked = outcomes, []

    def score(self, archs, rivals=None):
        self.asked.append((list(archs), rivals))
        for index, arch in enumerate(archs):
            outcomes = self.outcomes[arch]
            given_up = rivals is not None and rivals[index] is not None and outcomes.mean() < rivals[index].mean()
            yield index, Score(outcomes.mean(), 4 if given_up else len(outcomes), None if given_up else outcomes)


@pytest.fixture
def archs(rng):
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(6)))


@pytest.fixture
def outcomes(archs, rng):
    return {arch: np.arange(40) < 10 + 5 * i for i, arch in enumerate(archs)}


def costs(archs):
    return np.array([[float(arch.resolution), sum(arch.depths)] for arch in archs])


def results(archs, outcomes):
    return [Result(arch, outcomes[arch].mean(), {"a": 1.0}) for arch in archs]


def test_without_a_front_everything_is_scored_in_full(archs, outcomes):
    found = {index: (accuracy, extra) for index, accuracy, extra in Judge(Recorded(outcomes), costs).many(archs, [])}
    assert found == {i: (outcomes[arch].mean(), {"images": 40}) for i, arch in enumerate(archs)}


def test_each_meets_the_most_accurate_of_the_front_that_costs_no_more(archs, outcomes):
    scorer = Recorded(outcomes)
    judge = Judge(scorer, costs)
    front = results(archs[:3], outcomes)
    list(judge.many(archs[:3], []))
    list(judge.many(archs[3:], front))
    (_, _), (asked, rivals) = scorer.asked[0], scorer.asked[-1]
    assert asked == archs[3:]
    for arch, rival in zip(asked, rivals, strict=True):
        (own,) = costs([arch])
        cheaper = [other for other in archs[:3] if (costs([other])[0] <= own).all()]
        expected = max((outcomes[other].mean() for other in cheaper), default=None)
        assert expected == (None if rival is None else rival.mean())


def test_rivals_of_an_earlier_process_are_scored_again_and_only_once(archs, outcomes):
    scorer = Recorded(outcomes)
    judge = Judge(scorer, lambda archs: np.zeros((len(archs), 1)))
    front = results(archs[:1], outcomes)
    for _ in range(2):
        list(judge.many(archs[1:], front))
    assert [asked for asked, _ in scorer.asked] == [archs[:1], archs[1:], [], archs[1:]]


def test_an_estimate_says_that_it_is_one(archs, outcomes):
    judge = Judge(Recorded(outcomes), lambda archs: np.zeros((len(archs), 1)))
    best = archs[-1]
    found = [extra for *_, extra in judge.many(archs[:-1], results([best], outcomes))]
    assert found == [{"images": 4, "estimated": True}] * len(archs[:-1])


def test_without_early_stopping_nobody_has_a_rival(archs, outcomes):
    scorer = Recorded(outcomes)
    list(Judge(scorer, costs, early=False).many(archs, results(archs[:2], outcomes)))
    assert scorer.asked == [(archs, None)]
