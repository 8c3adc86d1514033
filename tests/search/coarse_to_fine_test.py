import dataclasses

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import CoarseToFine, Objectives, ParetoFront, Result, model_costs, run
from tfqnas.search.coarse_to_fine import PAPER_EDGES, PAPER_PER_BIN

TINY, MBV3 = spaces.get("tiny"), spaces.get("mbv3")


def objectives_of(space=TINY, limits=None):
    return Objectives(space, model_costs(space, 4, 10, 1), ("effective_mflops",), limits or {})


def skeleton(arch):
    return dataclasses.replace(arch, kernels=(3,) * len(arch.kernels))


def score(arch):
    """More for wider blocks and larger kernels, by amounts that depend on the place."""
    kernels = sum(kernel / (i + 2) for i, kernel in enumerate(arch.kernels))
    return (sum(arch.expands) + kernels + arch.resolution / 8) / 100


def rounds_of(searcher, scored=lambda archs: archs):
    """The architectures of the bins, then of each round, as lists, and the front before each round.

    scored: of the architectures asked for, those that get a score.
    """
    told, rounds, fronts = [], [], []
    while archs := searcher.ask(10_000):
        rounds.append(archs)
        told += [Result(a, score(a), searcher.objectives.record(a)) for a in scored(archs)]
        searcher.tell(scored(archs), [score(arch) for arch in scored(archs)])
        fronts.append(ParetoFront.of(told, "effective_mflops").rows)
    return rounds, fronts


def test_first_come_random_architectures_the_same_number_in_each_bin():
    searcher = CoarseToFine(objectives_of(), 4, 10)
    archs = searcher.ask(1000)
    macs = [searcher.objectives.record(arch)["mmacs"] for arch in archs]
    assert np.histogram(macs, searcher.edges)[0].tolist() == [10] * 4 and len(set(archs)) == 40


@pytest.mark.parametrize(
    ("space", "per_bin"), [("mbv3", 4), ("mbv2", 4), pytest.param("mbv3", PAPER_PER_BIN, marks=pytest.mark.slow)]
)
def test_the_papers_numbers(space, per_bin):
    assert PAPER_EDGES == (50, 100, 150, 200, 250, 300) and PAPER_PER_BIN * 5 == 10_000
    searcher = CoarseToFine(objectives_of(spaces.get(space)), PAPER_EDGES, per_bin)
    archs = searcher.ask(10_000)
    macs = searcher.objectives.costs["mmacs"](np.array([searcher.objectives.space.encode(arch) for arch in archs]))
    assert np.histogram(macs, PAPER_EDGES)[0].tolist() == [per_bin] * 5 and len(set(archs)) == 5 * per_bin


def test_then_come_other_kernels_for_the_skeletons_of_the_front():
    rounds, fronts = rounds_of(CoarseToFine(objectives_of(), 4, 10, per_skeleton=6, rounds=3))
    assert len(rounds) == 4
    for i in (1, 2, 3):
        earlier = {arch for archs in rounds[:i] for arch in archs}
        assert len(set(rounds[i])) == len(rounds[i]) and not set(rounds[i]) & earlier
        skeletons = {skeleton(row.arch) for row in fronts[i - 1]}
        assert {skeleton(arch) for arch in rounds[i]} <= skeletons
        assert 0 < len(rounds[i]) <= 6 * len(skeletons)
        assert all(sum(skeleton(arch) == one for arch in rounds[i]) <= 6 for one in skeletons)


def test_perturbations_start_from_the_most_accurate_of_a_skeleton():
    searcher = CoarseToFine(objectives_of(MBV3), [100, 300], 10, per_skeleton=200, rounds=1, probability=0.25)
    (_, fine), fronts = rounds_of(searcher)
    kernels = {skeleton(row.arch): np.array(row.arch.kernels) for row in fronts[0]}
    changed = [np.mean(kernels[skeleton(arch)] != arch.kernels) for arch in fine]
    # Drawn anew with 1/4, of 3 choices; the first half once for each of some 15 groups: 0.02 is three standard errors.
    assert np.mean(changed) == pytest.approx(0.25 * 2 / 3, abs=0.02)


def test_neighbours_share_prefixes():
    (_, fine), fronts = rounds_of(CoarseToFine(objectives_of(), 4, 10, per_skeleton=8, rounds=1))
    groups = {}
    for arch in fine:
        groups.setdefault(skeleton(arch), []).append(arch)
    assert [arch for group in groups.values() for arch in group] == fine  # a skeleton's are together
    for group in groups.values():
        codes = [TINY.encode(arch).tolist() for arch in group]
        assert codes == sorted(codes)
    accuracies = {skeleton(row.arch): row.accuracy for row in fronts[0]}
    assert list(groups) == sorted(groups, key=lambda one: -accuracies[one])


def test_proposals_of_one_round_do_not_depend_on_the_batch():
    def proposed(batch):
        results = []
        searcher = CoarseToFine(objectives_of(), 4, 5, per_skeleton=6, rounds=2)
        run(searcher, score, lambda arch: 1, 10_000, results.append, batch)
        return [result.arch for result in results]

    assert proposed(1) == proposed(7) == proposed(1000)


def test_a_generation_is_a_phase_or_a_hundred_of_it():
    """So a scorer sees relatives together, and `--workers` have more than two subnets each."""
    sizes = []

    class Score:
        def many(self, archs, front):
            sizes.append(len(archs))
            yield from ((i, score(arch), {}) for i, arch in enumerate(archs))

    searcher = CoarseToFine(objectives_of(), 4, 40, per_skeleton=6, rounds=1)
    run(searcher, Score(), searcher.objectives.record, 10_000, by="effective_mflops")
    assert sizes[:3] == [100, 60, 100] and len(sizes) == 4


def test_skeletons_are_those_of_what_got_a_score():
    def half(archs):
        return archs[::2]

    (coarse, fine), _ = rounds_of(CoarseToFine(objectives_of(), 4, 10, rounds=1), half)
    assert {skeleton(arch) for arch in fine} <= {skeleton(arch) for arch in half(coarse)}


def test_a_skeleton_runs_out_of_kernels(micro):
    # Four blocks at most, two kernels each: of a skeleton 16 at most, and the search ends by itself.
    searcher = CoarseToFine(objectives_of(micro), 2, 3, per_skeleton=100, rounds=50)
    rounds, _ = rounds_of(searcher)
    archs = [arch for part in rounds for arch in part]
    assert len(set(archs)) == len(archs) and len(rounds) < 51


@pytest.mark.parametrize("limits", [{"mmacs": 1.5}, {"kB": 80.0}, {"mmacs": 2.0, "kB": 90.0}])
def test_nothing_is_proposed_beyond_the_limits(limits):
    objectives = objectives_of(TINY, limits)
    searcher = CoarseToFine(objectives, 3, 8, by=next(iter(limits)), rounds=1)
    rounds, _ = rounds_of(searcher)
    codes = np.array([TINY.encode(arch) for archs in rounds for arch in archs])
    assert len(rounds) == 2 and not objectives.excess(codes).any()
    assert searcher.edges[-1] == pytest.approx(next(iter(limits.values())))


def test_without_rounds_there_are_random_architectures_only():
    rounds, _ = rounds_of(CoarseToFine(objectives_of(), 3, 5, rounds=0))
    assert [len(archs) for archs in rounds] == [15]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "joule"}, "by: expected some of effective_mflops, mmacs, mbitops, params, kB, received 'joule'"),
        ({"per_skeleton": 0}, "per_skeleton: expected an integer from 1 on, received 0"),
        ({"rounds": -1}, "rounds: expected an integer from 0 on, received -1"),
        ({"probability": 0}, "probability: expected a number above 0, up to 1, received 0"),
        ({"edges": 0}, "edges: expected costs or a positive number of bins, received 0"),
        ({"edges": [2, 1]}, "edges: expected at least two ascending costs"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CoarseToFine(objectives_of(), **{"edges": 3, "per_bin": 5, **settings})
