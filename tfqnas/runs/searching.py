"""Searches one supernet: turns settings into objectives, a searcher and a scorer, and keeps every score."""

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.files import append_jsonl, warn, write_atomically, write_json
from tfqnas.progress import Part
from tfqnas.runs.run import Run
from tfqnas.runs.scoring import scoring
from tfqnas.scoring.judge import Judge
from tfqnas.scoring.predictor import Predictor, Quality
from tfqnas.search import SEARCHERS, Objectives, ParetoFront, Result, Searcher, model_costs
from tfqnas.search import run as run_search
from tfqnas.search.directory import SearchOf, claim, front_in, of_same_supernet, results_in, reused_in, scored_in
from tfqnas.search.file_size import file_kb
from tfqnas.search.latency import LatencyTable
from tfqnas.search.screened import Screened
from tfqnas.search.search_config import LIMITS, TABLE_COSTS, SearchConfig, cost_of
from tfqnas.spaces import SearchSpace
from tfqnas.supernet import Supernet
from tfqnas.train.stages import Bits

__all__ = ["FrontSearch", "front_in", "results_in"]

_ANY_BELOW_8 = 4
# How many times a search logs the best accuracies within some budgets.
_LOGGED = 10


class Known(NamedTuple):
    """Known scores: `results` of this search before it was stopped, `former` ones of other searches of the supernet."""

    results: Sequence[Result]
    former: Sequence[Result]


class Find(Protocol):
    """A function that asks a searcher and tells it scores until the budget of the search is spent."""

    def __call__(
        self,
        search: "FrontSearch",
        part: Part,
        supernet: Supernet,
        searcher: Searcher,
        known: Known,
        on_result: Callable[[Result], None],
    ) -> ParetoFront: ...


def scored_of(run: Run, bits: Bits) -> SearchOf:
    """Digests of space and supernet of a run, which tell whose scores a search holds."""
    space = hashlib.sha256(run.space.to_json().encode()).hexdigest()[:16]
    return {"space": space, "supernet": run.networks.identity(bits)}


def is_current(run: Run, bits: Bits, directory: pathlib.Path) -> bool:
    """Whether a search scored the supernet that the run has now; says so if not."""
    current = of_same_supernet(directory, scored_of(run, bits))
    if not current:
        warn(
            f"{directory}: left out, it scored another supernet than the run has now; tfqnas search "
            f"--run_dir={run.directory} searches that one"
        )
    return current


class FrontSearch:
    """The search of one supernet.

    Args:
        run: `Run`.
        config: `SearchConfig`.
        bits: bit width of the supernet.
        directory: directory of the search's files.
        find: the function that asks the searcher and tells it scores; by default `find_here`.

    Attributes:
        objectives: `Objectives`.
        budget: the most subnets that the search scores.
        table: `LatencyTable` or None.

    Raises:
        UserError: the settings do not suit the run.
    """

    def __init__(
        self, run: Run, config: SearchConfig, bits: Bits, directory: pathlib.Path, find: "Find | None" = None
    ) -> None:
        self.run, self.config, self.bits, self.directory = run, config, bits, directory
        self._find = find or find_here
        self.space = self._space()
        self._given_up: set[Arch] = set()  # architectures with an estimated score
        try:
            self.table = self._table()
            self.objectives = self._objectives()
            kind = SEARCHERS[config.search]
            self.searcher, self.budget = kind.of_settings(config.search, self.objectives, config)
        except ValueError as error:
            raise self._error(error) from None

    def __call__(self, part: Part, supernet: Supernet) -> ParetoFront:
        """Searches, or continues a stopped search, and returns the `ParetoFront`.

        Each score is appended to `scored.jsonl` as it arrives. A search with other settings in the directory is set
        aside, and its full scores are reused (see `tfqnas.search.directory`).
        """
        run, space = self.run, self.run.space
        claim(self.directory, self.config, self._about(), space, run.directory / "models", self._fitting, part.log)
        former = self._with_costs(reused_in(self.directory, space, part.log))
        results = self._with_costs(scored_in(self.directory, space, part.log))
        self._given_up.update(result.arch for result in results if result.estimated)
        shown = _Shown(part, self.objectives, self.budget, results, former)
        searcher = self._screened(part)

        def on_result(result: Result) -> None:
            append_jsonl(self.directory / "scored.jsonl", dataclasses.asdict(result))
            if result.estimated:
                self._given_up.add(result.arch)
            shown.add(result)

        try:
            front = self._find(self, part, supernet, searcher, Known(results, former), on_result)
        except ValueError as error:
            raise self._error(error) from None
        write_atomically(self.directory / "pareto.json", front.to_json())
        write_atomically(self.directory / "pareto.csv", csv_of(front))
        return front

    def predicted(self, arch: Arch) -> dict[str, Any]:
        """The predicted latency of an architecture and the device, for its record; empty without a latency table."""
        if self.table is None:
            return {}
        name = f"predicted_{TABLE_COSTS[self.table.unit]}"
        known = dataclasses.replace(arch, bits=None)
        return {name: self.table.of(known), "latency_device": self.table.holds_for}

    def costs(self, archs: Sequence[Arch]) -> np.ndarray:
        """The costs that the search minimises, float64 (n, k), with a row for each architecture."""
        return self.objectives.values(np.array([self.space.encode(arch) for arch in archs]))

    def _with_costs(self, results: Sequence[Result]) -> list[Result]:
        """The results with this search's costs, if they were written with other costs."""
        known = self.objectives.costs.keys()
        return [
            result
            if result.costs.keys() == known
            else Result(result.arch, result.accuracy, self.objectives.record(result.arch), result.extra)
            for result in results
        ]

    def _fitting(self, results: Sequence[Result]) -> list[Result]:
        """The results of other searches that are within space and limits, with this search's costs."""
        results = [result for result in results if self._is_allowed(result.arch)]
        if not results:
            return []
        excess = self.objectives.excess(np.array([self.space.encode(result.arch) for result in results]))
        return [
            Result(result.arch, result.accuracy, self.objectives.record(result.arch), result.extra)
            for result, beyond in zip(results, excess, strict=True)
            if not beyond
        ]

    def _is_allowed(self, arch: Arch) -> bool:
        try:
            self.space.validate(arch)
        except ValueError:  # its bit widths are not choices of this search
            return False
        return True

    def _space(self) -> SearchSpace:
        """The run's space with the bit widths from which the search may choose."""
        config, space = self.config, self.run.space
        asked: dict[str, Any] = {
            "weight_bits": config.search_weight_bits,
            "input_bits": config.search_input_bits,
            "bits_by": config.search_bits_by,
        }
        asked = {name: value for name, value in asked.items() if value}
        if not asked:
            return space
        if not space.mixed:
            raise UserError(
                f"`search_{next(iter(asked))}`: expected a run whose space has bit widths to choose, such as tiny_qfa, "
                f"this one has {space.name}"
            )
        try:
            return space.restricted(**asked)
        except ValueError as error:
            raise UserError(f"{', '.join(f'`search_{name}`' for name in asked)}: {error}") from None

    def _table(self) -> LatencyTable | None:
        config, data = self.config, self.run.dataset
        if not config.latency_table:
            return None
        # Bit widths do not affect latency, since files have a byte for each weight.
        bits = _ANY_BELOW_8 if self.space.mixed else self.bits
        space = self.space.without_bits()
        return LatencyTable.load(config.latency_table, space, bits, data.num_classes, data.channels)

    def _latency(self, codes: np.ndarray) -> np.ndarray:
        """The predicted latencies of codes, from their genes without those of bit widths."""
        table = cast(LatencyTable, self.table)
        return table.of_codes(np.asarray(codes)[:, : len(table.space.genes)])

    def _about(self) -> SearchOf:
        """What determines this search in addition to its settings."""
        about = scored_of(self.run, self.bits) | SearchOf(latency_table_sha256=None, latency_device=None)
        if self.table is not None:
            content = pathlib.Path(self.config.latency_table).read_bytes()
            about["latency_table_sha256"] = hashlib.sha256(content).hexdigest()
            about["latency_device"] = self.table.holds_for
        return about

    def _objectives(self) -> Objectives:
        config, data = self.config, self.run.dataset
        bits = self.bits if isinstance(self.bits, int) and not self.space.mixed else None
        costs = model_costs(self.space, bits, data.num_classes, data.channels)
        costs["file_kB"] = functools.partial(file_kb, self.space, data.num_classes, data.channels)
        if self.table:
            costs[TABLE_COSTS[self.table.unit]] = self._latency
        names = [cost_of(name) for name in config.objectives if name != "accuracy"]
        limits = {flag: cost for flag, cost in LIMITS.items() if getattr(config, flag)}
        for cost, flag in [*((cost, "objectives") for cost in names), *((cost, flag) for flag, cost in limits.items())]:
            if cost not in costs:
                raise UserError(
                    f"`{flag}`: {cost} needs another `latency_table`: {config.latency_table} is in "
                    f"{self.table and self.table.unit}"
                )
        return Objectives(
            self.space, costs, tuple(names), {cost: getattr(config, flag) for flag, cost in limits.items()}
        )

    def _error(self, error: ValueError) -> UserError:
        """A `UserError` in which limits have the names of their settings."""
        names = {cost: limit for limit, cost in LIMITS.items()}
        text = re.sub(r"\bmax (\w+):", lambda found: f"`{names.get(found[1], found[1])}`:", str(error))
        name = f"{self.bits}-bit" if isinstance(self.bits, int) else self.bits or "float"
        return UserError(f"search of the {name} supernet: {text}")

    def _screened(self, part: Part) -> Searcher:
        if self.config.search_screen == 1:
            return self.searcher

        def on_fit(quality: Quality) -> None:
            part.log(str(quality))
            write_json(self.directory / "predictor.json", dataclasses.asdict(quality))

        predictor = Predictor(self.space, seed=self.config.search_seed)
        return Screened(
            self.searcher,
            self.objectives,
            predictor,
            self.config.search_screen,
            on_fit=on_fit,
            estimated=self._given_up.__contains__,
        )


def find_here(
    search: FrontSearch,
    part: Part,
    supernet: Supernet,
    searcher: Searcher,
    known: Known,
    on_result: Callable[[Result], None],
) -> ParetoFront:
    """The front of the proposals of `searcher`, scored in this process or in several on this machine."""
    run, config = search.run, search.config
    with scoring(run, search.bits, supernet, config.workers, search.budget, part.log) as scorer:
        return run_search(
            searcher,
            Judge(scorer, search.costs, config.early_stopping),
            search.objectives.record,
            search.budget,
            on_result,
            results=known.results,
            by=search.objectives.minimised or None,
            former=known.former,
        )


class _Shown:
    """Shows a running search: the best accuracies within some budgets, and the number of scored subnets."""

    def __init__(
        self, part: Part, objectives: Objectives, budget: int, results: Sequence[Result], former: Sequence[Result]
    ) -> None:
        self._part, self._budget, self._known = part, budget, len(results)
        self._results = [result for result in (*former, *results) if not result.estimated]
        self._cost = objectives.minimised[0] if objectives.minimised else next(iter(objectives.costs))
        self._done = self._given_up = 0

    def add(self, result: Result) -> None:
        self._done += 1
        if result.estimated:
            self._given_up += 1
        else:
            self._results.append(result)
        scored = self._known + self._done
        if self._done == 1:  # its time includes tracing, so it is left out of the rate
            self._part.resume(scored / self._budget)
        given_up = f", {self._given_up} of them given up early" if self._given_up else ""
        best = self._best()
        self._part.update(scored / self._budget, f"{best} {self._cost}; {scored} subnets{given_up}")
        if _LOGGED * scored // self._budget > _LOGGED * (scored - 1) // self._budget:
            self._part.log(f"best after {scored} subnets{given_up}: {best} {self._cost}")

    def _best(self) -> str:
        """Text such as "91.2% at 0.2, 93.5% at 0.4, 94.1% at 0.8"."""
        costs = np.array([result.costs[self._cost] for result in self._results])
        accuracies = np.array([result.accuracy for result in self._results])
        low, high = costs.min(), costs.max()
        budgets = dict.fromkeys(low + share * (high - low) for share in (0.25, 0.5, 1))
        found = ((accuracies[costs <= budget].max(), budget) for budget in budgets)
        return ", ".join(f"{accuracy:.1%} at {budget:.3g}" for accuracy, budget in found)


def csv_of(front: ParetoFront) -> str:
    """A front as comma-separated values with accuracy, costs and the architecture's key."""
    rows = ["accuracy," + ",".join(front.rows[0].costs) + ",architecture"] if front.rows else []
    for row in front.rows:
        rows.append(f"{row.accuracy:.6g}," + ",".join(f"{v:.9g}" for v in row.costs.values()) + f",{row.arch.key}")
    return "\n".join(rows) + "\n"
