"""NSGA-II against pymoo's on the standard ZDT problems, with choices in place of numbers from 0 to 1."""

import warnings

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import NSGA2, Objectives, hypervolume, model_costs, run
from tfqnas.spaces import SearchSpace, Stage

TINY = spaces.get("tiny")

# A gene of 101 choices and 14 of 8; the depths have no choice.
_STAGE = Stage(8, stride=1, depths=(1,), kernels=tuple(range(3, 19, 2)), expands=tuple(range(2, 10)))
ZDT = SearchSpace("zdt", tuple(range(8, 109)), stem_channels=8, stages=(_STAGE,) * 7, head_channels=8)
FREE = ZDT.choice_counts > 1
POPULATION, EVALUATIONS = 100, 5000
REFERENCE = (1.1, 1.1)


def zdt(problem, x):
    """Both objectives of ZDT1, 2 or 3 (Zitzler, Deb and Thiele, 2000), float (m, 2), of x in [0, 1], (m, n)."""
    f1, g = x[:, 0], 1 + 9 * x[:, 1:].mean(axis=1)
    ratio = f1 / g
    h = {
        "zdt1": 1 - np.sqrt(ratio),
        "zdt2": 1 - ratio**2,
        "zdt3": 1 - np.sqrt(ratio) - ratio * np.sin(10 * np.pi * f1),
    }[problem]
    return np.stack((f1, g * h), axis=1)


def values_of(problem, codes):
    return zdt(problem, codes[:, FREE] / (ZDT.choice_counts[FREE] - 1))


def objectives_of(problem, limits=None):
    return Objectives(ZDT, {"f1": lambda codes: values_of(problem, codes)[:, 0]}, ("f1",), limits or {})


def ours(problem, limits=None, evaluations=EVALUATIONS, **settings):
    """float (evaluations, 2): everything that NSGA-II tried, its second objective as the error."""
    searcher, tried = NSGA2(objectives_of(problem, limits), POPULATION, **settings), []
    for _ in range(evaluations // POPULATION):
        archs = searcher.ask(POPULATION)
        values = values_of(problem, np.array([ZDT.encode(arch) for arch in archs]))
        searcher.tell(archs, 1 - values[:, 1])
        tried.append(values)
    return np.concatenate(tried)


def theirs(problem, operators):
    """The same of pymoo."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymoo.algorithms.moo.nsga2 import NSGA2 as Pymoo
        from pymoo.core.problem import Problem
        from pymoo.core.variable import Integer
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.mutation.rm import ChoiceRandomMutation
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.optimize import minimize

    counts, tried = ZDT.choice_counts[FREE], []

    class Choices(Problem):
        def __init__(self):
            super().__init__(n_obj=2, vars={str(i): Integer(bounds=(0, n - 1)) for i, n in enumerate(counts)})
            self.xl, self.xu = np.zeros_like(counts), counts - 1

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = zdt(problem, np.asarray(x, float) / (counts - 1))
            tried.append(out["F"])

    rounded = {"vtype": float, "repair": RoundingRepair()}
    both = {"choices": (UX(), ChoiceRandomMutation()), "integers": (SBX(**rounded), PM(**rounded))}[operators]
    algorithm = Pymoo(POPULATION, sampling=IntegerRandomSampling(), crossover=both[0], mutation=both[1])
    minimize(Choices(), algorithm, ("n_gen", EVALUATIONS // POPULATION), seed=0)
    return np.concatenate(tried)


def best(problem, limit=1.0):
    """Hypervolume of the true front: all but the first gene are 0."""
    x = np.zeros((101, 2))
    x[:, 0] = np.linspace(0, 1, 101)
    return hypervolume(zdt(problem, x[x[:, 0] <= limit]), REFERENCE)


# Integers (SBX, polynomial mutation) know that neighbouring numbers are alike, which choices do not.
@pytest.mark.parametrize(
    ("problem", "operators"),
    [
        *((problem, "choices") for problem in ("zdt1", "zdt2", "zdt3")),
        pytest.param("zdt2", "integers", marks=pytest.mark.slow),
    ],
)
def test_hypervolume_is_within_1_percent_of_pymoos_and_of_the_true_front(problem, operators):
    volume = hypervolume(ours(problem), REFERENCE)
    assert volume >= 0.99 * hypervolume(theirs(problem, operators), REFERENCE)
    assert 0.99 * best(problem) <= volume <= best(problem) * (1 + 1e-12)


def test_hypervolume_with_the_rates_of_qfa_is_within_1_percent_of_the_true_front():
    assert hypervolume(ours("zdt1", crossover=0.007, mutation=0.02), REFERENCE) >= 0.99 * best("zdt1")


def test_a_limit_is_never_exceeded_and_the_front_within_it_found():
    tried = ours("zdt1", {"f1": 0.2}, evaluations=3000)
    assert tried[:, 0].max() <= 0.2
    assert hypervolume(tried, REFERENCE) >= 0.99 * best("zdt1", limit=0.2)


@pytest.mark.parametrize("minimised", [("ms",), ("ms", "kB")])
def test_the_front_of_a_small_space_is_found_long_before_all_is_tried(micro, every_code, random_cost, minimised):
    costs = {name: random_cost(micro, seed) for seed, name in enumerate(minimised)}
    score = random_cost(micro, 9)
    objectives = Objectives(micro, costs, minimised)

    def values(codes):
        return np.column_stack((-score(codes), objectives.values(codes)))

    everything = values(every_code)
    searcher, reference, tried = NSGA2(objectives, 20), everything.max(axis=0), []
    for _ in range(15):
        archs = searcher.ask(20)
        codes = np.array([micro.encode(arch) for arch in archs])
        searcher.tell(archs, score(codes))
        tried.append(values(codes))
    assert hypervolume(np.concatenate(tried), reference) >= 0.99 * hypervolume(everything, reference)


def tiny(limits=None):
    return Objectives(TINY, model_costs(TINY, 4, 10, 1), ("effective_mflops",), limits or {})


def wide(arch):
    return sum(arch.expands) / 100


def test_a_crossover_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"crossover: expected a number from 0 to 1, received -0.1"):
        NSGA2(tiny(), crossover=-0.1)


def test_a_generation_is_a_population():
    batches = []

    class Recorded(NSGA2):
        def tell(self, archs, scores):
            batches.append(len(archs))
            super().tell(archs, scores)

    run(Recorded(tiny(), 15), wide, tiny().record, 50)
    assert batches == [15, 15, 15, 5]


def test_what_exceeds_a_limit_stays_behind_the_least_first():
    objectives = tiny({"mmacs": 2.0})
    searcher = NSGA2(objectives, 6)
    archs = NSGA2(tiny(), 40).ask(40)
    codes = np.array([TINY.encode(arch) for arch in archs])
    excess = objectives.excess(codes)
    within, beyond = codes[excess == 0][:3], codes[excess > 0]
    searcher.tell([TINY.decode(code) for code in (*beyond, *within)], [0.9] * len(beyond) + [0.1] * 3)
    assert {tuple(code) for code in searcher.codes[:3]} == {tuple(code) for code in within}
    assert objectives.excess(searcher.codes[3:]).tolist() == sorted(excess[excess > 0])[:3]


def test_parents_are_winners_of_tournaments():
    searcher = NSGA2(tiny(), 10, crossover=0.0, mutation=1e-9)
    archs = searcher.ask(10)
    searcher.tell(archs, [wide(arch) for arch in archs])
    children = searcher.breed(20_000, 1e-9)
    shares = [(children == code).all(axis=1).mean() for code in searcher.codes]
    # The best of two of ten: the i-th, from 0, wins with probability (2 * (10 - i) - 1) / 100.
    assert shares == pytest.approx([(19 - 2 * i) / 100 for i in range(10)], abs=0.02)
