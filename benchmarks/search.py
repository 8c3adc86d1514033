"""The cost of search without scoring, as CPU seconds of each searcher for 10,000 MobileNetV3 architectures.

    python benchmarks/search.py                       # about a minute
    python benchmarks/search.py --short               # a tiny space and few architectures, to see that everything runs
    python benchmarks/search.py --only=nsga2,pymoo --evaluations=2000

The time includes the costs of proposed architectures but not their scores, which are random sums over the choices.
It is CPU time of this process, so that other load on the machine makes little difference.

nsga2           `NSGA2` with generations of 100, over the error and effective MFLOPs
  three, limit  the same over the error, effective MFLOPs and kB, within a limit of the MFLOPs
  one by one    the same as the first, but asked for one architecture at a time, as by asynchronous workers
ageing          `AgeingEvolution`, within the limit
bins            `RandomBins` with five bins of MACs, which for MobileNetV3's space are those of the paper
coarse          `CoarseToFine`, with half of the architectures in these bins, then perturbed kernel sizes
pymoo           NSGA-II of pymoo with the same operators and costs for comparison, if it is installed
"""

import argparse
import importlib.util
import time

import numpy as np
from table import Row, show, versions

PARTS = ("nsga2", "ageing", "bins", "coarse", "pymoo")


class Problem:
    """A space, a score of its codes, and its costs at 4 bits."""

    def __init__(self, space):
        from tfqnas.search import model_costs
        from tfqnas.search.coarse_to_fine import PAPER_EDGES

        self.space, self.costs = space, model_costs(space, 4)
        self.edges = PAPER_EDGES if space.name == "mbv3" else 5
        rng = np.random.default_rng(0)
        self.worths = [np.sort(rng.random(n)) / len(space.genes) for n in space.choice_counts]

    def accuracy(self, codes):
        """float (m,), more for higher choices of each gene, in steps of random size."""
        return sum(worth[column] for worth, column in zip(self.worths, codes.T, strict=True))

    def objectives(self, *minimised, limited=False):
        from tfqnas.search import Objectives

        ends = np.array([self.space.encode(arch) for arch in (self.space.smallest(), self.space.largest())])
        limits = {"effective_mflops": self.costs["effective_mflops"](ends).mean()} if limited else {}
        return Objectives(self.space, self.costs, minimised, limits)


def overhead(problem, make, evaluations, batch=None):
    """(CPU seconds, architectures) of a search with the searcher that `make()` returns."""
    began, scoring, proposed = time.process_time(), 0.0, 0
    searcher = make()
    batch = batch or searcher.generation or 100
    while archs := searcher.ask(min(batch, evaluations - proposed)):
        before = time.process_time()
        scores = problem.accuracy(np.array([problem.space.encode(arch) for arch in archs])).tolist()
        scoring += time.process_time() - before
        searcher.tell(archs, scores)
        proposed += len(archs)
    return time.process_time() - began - scoring, proposed


def row(name, problem, make, evaluations, batch=None, target=None):
    seconds, proposed = overhead(problem, make, evaluations, batch)
    return Row(name, seconds, f"{proposed:,} architectures, {1e3 * seconds / proposed:.2f} ms each", target, ".3g")


def measure_nsga2(problem, evaluations):
    from tfqnas.search import NSGA2

    two = problem.objectives("effective_mflops")
    three = problem.objectives("effective_mflops", "kB", limited=True)
    yield row("nsga2", problem, lambda: NSGA2(two), evaluations, target=2.0)
    yield row("  three objectives, a limit", problem, lambda: NSGA2(three), evaluations, target=2.0)
    yield row("  one by one", problem, lambda: NSGA2(two), evaluations, batch=1)


def measure_ageing(problem, evaluations):
    from tfqnas.search import AgeingEvolution

    objectives = problem.objectives(limited=True)
    yield row("ageing", problem, lambda: AgeingEvolution(objectives), evaluations, target=2.0)


def measure_bins(problem, evaluations):
    from tfqnas.cost import count
    from tfqnas.search import RandomBins

    def mmacs(arch):
        return count(problem.space, arch).macs / 1e6

    per_bin = evaluations // 5
    yield row("bins", problem, lambda: RandomBins(problem.space, mmacs, problem.edges, per_bin), evaluations)


def measure_coarse(problem, evaluations):
    from tfqnas.search import CoarseToFine

    objectives, per_bin = problem.objectives("effective_mflops"), evaluations // 10
    yield row("coarse", problem, lambda: CoarseToFine(objectives, problem.edges, per_bin, rounds=50), evaluations)


def measure_pymoo(problem, evaluations):
    if not importlib.util.find_spec("pymoo"):
        return
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Base
    from pymoo.core.variable import Integer
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.rm import ChoiceRandomMutation
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Codes(Base):
        def __init__(self):
            counts = problem.space.choice_counts
            super().__init__(n_obj=2, vars={str(i): Integer(bounds=(0, n - 1)) for i, n in enumerate(counts)})
            self.xl, self.xu = np.zeros_like(counts), counts - 1
            self.scoring = 0.0

        def _evaluate(self, x, out, *args, **kwargs):
            codes = np.asarray(x).astype(np.int32)
            before = time.process_time()
            scores = problem.accuracy(codes)
            self.scoring += time.process_time() - before
            out["F"] = np.column_stack((1 - scores, problem.costs["effective_mflops"](codes)))

    codes, began = Codes(), time.process_time()
    operators = {"sampling": IntegerRandomSampling(), "crossover": UX(), "mutation": ChoiceRandomMutation()}
    result = minimize(codes, NSGA2(pop_size=100, **operators), ("n_eval", evaluations), seed=0)
    seconds, proposed = time.process_time() - began - codes.scoring, result.algorithm.evaluator.n_eval
    yield Row("pymoo", seconds, f"{proposed:,} codes, {1e3 * seconds / proposed:.2f} ms each", form=".3g")


def main():
    from tfqnas import spaces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the tiny space, 200 architectures")
    parser.add_argument("--evaluations", type=int, default=0, help="architectures; 0: 10,000, or 200 with --short")
    parser.add_argument("--only", default="", help=f"parts to measure, of {','.join(PARTS)}")
    arguments = parser.parse_args()
    parts = arguments.only.split(",") if arguments.only else list(PARTS)
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only: expected some of {','.join(PARTS)}, received {','.join(unknown)}")
    problem = Problem(spaces.get("tiny" if arguments.short else "mbv3"))
    evaluations = arguments.evaluations or (200 if arguments.short else 10_000)
    problem.costs["mmacs"](problem.space.encode(problem.space.largest())[None])  # makes the tables of costs
    measures = {
        "nsga2": measure_nsga2,
        "ageing": measure_ageing,
        "bins": measure_bins,
        "coarse": measure_coarse,
        "pymoo": measure_pymoo,
    }
    genes = len(problem.space.genes)
    print(f"{versions('numpy')}\nspace {problem.space.name}, {genes} genes, {evaluations:,} evaluations", flush=True)
    show(row for part in parts for row in measures[part](problem, evaluations))


if __name__ == "__main__":
    main()
