"""The search of one supernet: settings become objectives, a searcher and a scorer, and every score is kept."""

import dataclasses
import math

import numpy as np

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, read_json, read_jsonl, write_atomically, write_json
from tfqnas.scoring.judge import Judge
from tfqnas.scoring.of_run import scoring
from tfqnas.scoring.predictor import Predictor
from tfqnas.search import NSGA2, AgeingEvolution, CoarseToFine, Objectives, ParetoFront, Result, model_costs
from tfqnas.search import run as run_search
from tfqnas.search.coarse_to_fine import PAPER_EDGES, PAPER_PER_BIN
from tfqnas.search.latency import LatencyTable
from tfqnas.search.screened import Screened
from tfqnas.settings import first_difference, plain

# Spaces for which the paper gives its numbers, and how many bins and subnets others get.
_PAPER_SPACES = ("mbv3", "mbv3_relu", "mbv2")
_BINS, _PER_BIN = 6, 20
# Flags of limits, and the costs that they limit.
_LIMITS = {
    "max_effective_mflops": "effective_mflops", "max_mmacs": "mmacs", "max_kb": "kB", "max_latency_ms": "latency_ms",
    "max_npu_cycles": "npu_cycles",
}  # fmt: skip
# Results after which a predictor is first fitted: a share of the budget, but not fewer than it can learn from.
_FIRST_FIT, _SHARE_OF_FIRST_FIT = 40, 0.2


class FrontSearch:
    """The search of the supernet of one bit width.

    Args:
        run: `Run`. config: `SearchConfig`. bits: of the supernet. directory: where its files are.

    Attributes:
        objectives: `Objectives`. budget: how many subnets it scores at most.
    """

    def __init__(self, run, config, bits, directory):
        self.run, self.config, self.bits, self.directory = run, config, bits, directory
        config.check()
        try:
            self.objectives = self._objectives()
            self.searcher, self.budget = self._searcher()
        except ValueError as error:
            raise UserError(f"search of the {bits}-bit supernet: {error}") from None

    def __call__(self, part, supernet):
        """Searches, from where it was stopped, and returns the `ParetoFront`.

        Each score is appended to `scored.jsonl` as it comes.
        """
        _refuse_other_settings(self.directory / "config.json", self.config)
        results = results_in(self.directory, part.log)
        shown = _Shown(part, self.objectives, self.budget, results)
        searcher = self._screened(part)

        def on_result(result):
            append_jsonl(self.directory / "scored.jsonl", dataclasses.asdict(result))
            shown.add(result)

        try:
            front = self.find(part, supernet, searcher, results, on_result)
        except ValueError as error:
            raise UserError(f"search of the {self.bits}-bit supernet: {error}") from None
        write_atomically(self.directory / "pareto.json", front.to_json())
        write_atomically(self.directory / "pareto.csv", csv_of(front))
        return front

    def find(self, part, supernet, searcher, results, on_result):
        """The `ParetoFront` of what `searcher` proposes, scored here; `results`, `on_result`: those of `search.run`."""
        with scoring(self.run, self.bits, supernet, self.config.workers, part.log) as scorer:
            judge = Judge(scorer, self._costs, self.config.early_stopping)
            return run_search(
                searcher, judge, self.objectives.record, self.budget, on_result, results=results,
                by=self.objectives.minimised or None,
            )  # fmt: skip

    def _costs(self, archs):
        return self.objectives.values(np.array([self.run.space.encode(arch) for arch in archs]))

    def _objectives(self):
        config, data = self.config, self.run.dataset
        costs = model_costs(self.run.space, self.bits, data.num_classes, data.channels)
        if config.latency_table:
            table = LatencyTable.load(config.latency_table, self.run.space)
            costs[{"ms": "latency_ms", "cycles": "npu_cycles"}[table.unit]] = table.of_codes
        names = [{"latency": "latency_ms"}.get(name, name) for name in config.objectives if name != "accuracy"]
        limits = {cost: getattr(config, flag) for flag, cost in _LIMITS.items() if getattr(config, flag)}
        return Objectives(self.run.space, costs, tuple(names), limits)

    def _searcher(self):
        """`(searcher, how many it scores at most)`."""
        config, objectives, seed = self.config, self.objectives, self.config.search_seed
        if config.search in ("nsga2", "ageing"):
            kind = {"nsga2": NSGA2, "ageing": AgeingEvolution}[config.search]
            size = config.search_population or min(100, max(10, config.search_budget // 5))
            return kind(objectives, population=size, seed=seed), config.search_budget
        edges, per_bin = self._bins()
        rounds = config.search_rounds if config.search == "coarse_to_fine" else 0
        searcher = CoarseToFine(
            objectives, edges, per_bin, per_skeleton=config.search_per_skeleton, rounds=rounds, seed=seed
        )
        coarse = per_bin * (len(searcher.edges) - 1)
        # A front holds about as many skeletons as the square root of what was scored, by experience; it ends by itself.
        return searcher, coarse + rounds * config.search_per_skeleton * max(4, math.isqrt(coarse))

    def _bins(self):
        """Edges, or a number of bins, and how many subnets are in each."""
        config, paper = self.config, self.run.space.name in _PAPER_SPACES
        edges = config.search_edges or config.search_bins or (PAPER_EDGES if paper else _BINS)
        return edges, config.search_per_bin or (PAPER_PER_BIN if paper else _PER_BIN)

    def _screened(self, part):
        if self.config.search_screen == 1:
            return self.searcher

        def on_fit(quality):
            part.log(str(quality))
            write_json(self.directory / "predictor.json", dataclasses.asdict(quality))

        first = max(_FIRST_FIT, int(_SHARE_OF_FIRST_FIT * self.budget))
        predictor = Predictor(self.run.space, seed=self.config.search_seed)
        return Screened(self.searcher, self.objectives, predictor, self.config.search_screen, first, on_fit=on_fit)


class _Shown:
    """What a search shows while it runs: how many are scored, and the most accurate within some budgets."""

    def __init__(self, part, objectives, budget, results):
        self._part, self._budget, self._known = part, budget, len(results)
        self._results = [result for result in results if not result.estimated]
        self._cost = objectives.minimised[0] if objectives.minimised else next(iter(objectives.costs))
        self._done = self._given_up = 0

    def add(self, result):
        self._done += 1
        if result.estimated:
            self._given_up += 1
        else:
            self._results.append(result)
        scored = self._known + self._done
        if self._done == 1:  # it includes the traces: it says nothing of the pace
            self._part.resume(scored / self._budget)
        given_up = f" ({self._given_up} given up early)" if self._given_up else ""
        self._part.update(scored / self._budget, f"{scored} subnets{given_up}, best {self._best()}")

    def _best(self):
        costs = np.array([result.costs[self._cost] for result in self._results])
        accuracies = np.array([result.accuracy for result in self._results])
        low, high = costs.min(), costs.max()
        budgets = dict.fromkeys(float(f"{low + share * (high - low):.3g}") for share in (0.25, 0.5, 1))
        found = [(budget, accuracies[costs <= max(budget, low)]) for budget in budgets]
        ends = ", ".join(f"{best.max():.1%} at {budget:g}" for budget, best in found[:-1])
        return f"{ends}{', ' if ends else ''}{accuracies.max():.1%} ({self._cost})"


def results_in(directory, say=lambda line: None):
    """The `Result`s of a search so far; `say` is called with a warning of each line that cannot be read."""
    path = directory / "scored.jsonl"
    results = []
    for record in read_jsonl(path, say):
        results.append(Result(**{**record, "arch": Arch.from_json(record["arch"])}))
    return results


def csv_of(front):
    """A front as comma-separated values: accuracy, costs, and the architecture's key."""
    rows = ["accuracy," + ",".join(front.rows[0].costs) + ",architecture"] if front.rows else []
    for row in front.rows:
        rows.append(f"{row.accuracy:.6g}," + ",".join(f"{v:.9g}" for v in row.costs.values()) + f",{row.arch.key}")
    return "\n".join(rows) + "\n"


def _refuse_other_settings(path, config):
    """Scores in a search directory belong to one set of search settings."""
    if not path.exists():
        write_json(path, plain(config))
    difference = first_difference(config, read_json(path))
    if difference:
        name, ours, theirs = difference
        raise UserError(
            f"{path} was made with --{name}={theirs}, this search has --{name}={ours}: give the same value, or "
            f"remove {path.parent} to search anew"
        )


def front_in(directory):
    """The `ParetoFront` that a search has written, None if it has not."""
    path = directory / "pareto.json"
    return ParetoFront.from_json(read_json(path)) if path.exists() else None
