import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import NSGA2, CoarseToFine, Objectives, model_costs
from tfqnas.search.screened import Screened

TINY = spaces.get("tiny")
OBJECTIVES = Objectives(TINY, model_costs(TINY, 4, 10, 1), ("effective_mflops",))


class Recorded:
    """A predictor that likes small kernels, and keeps what it was trained on."""

    def __init__(self):
        self.fits = []

    def fit(self, codes, accuracies, counted):
        self.fits.append((len(codes), counted))

    def __call__(self, codes):
        return -codes.sum(axis=1)


@pytest.mark.parametrize(
    "searcher", [NSGA2(OBJECTIVES, population=10), CoarseToFine(OBJECTIVES, 4, 60, rounds=0)], ids=["nsga2", "coarse"]
)
def test_one_of_so_many_proposals_is_passed_on_also_at_the_end_of_a_phase(searcher):
    screened = Screened(searcher, OBJECTIVES, Recorded(), factor=8, first=10)
    passed = []
    asked = searcher.ask
    screened.searcher.ask = lambda n: passed.append(len(found := asked(n))) or found
    first = screened.ask(10)
    screened.tell(first, [0.5] * len(first))
    assert len(first) == passed.pop() == 10
    while archs := screened.ask(10)[: 10 if len(passed) < 6 else 0]:
        screened.tell(archs, [0.5] * len(archs))
        assert len(archs) == int(np.ceil(passed[-1] / 8))


def test_the_predictor_is_told_which_scores_are_estimates():
    estimated, predictor = set(), Recorded()
    screened = Screened(
        NSGA2(OBJECTIVES, population=10), OBJECTIVES, predictor, factor=2, first=10, estimated=estimated.__contains__
    )
    archs = screened.ask(10)
    estimated.update(archs[3:5])
    screened.tell(archs, [0.5] * 10)
    screened.ask(10)
    ((count, counted),) = predictor.fits
    assert count == 10 and counted.tolist() == [i not in (3, 4) for i in range(10)]
