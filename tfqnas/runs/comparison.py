"""Compares the fronts of several runs on the same data, such as mixed precision with single bit widths."""

import pathlib
from collections.abc import Iterable

import numpy as np

from tfqnas import report
from tfqnas.errors import SettingError, UserError, did_you_mean
from tfqnas.report.style import bits_label, cost_label
from tfqnas.runs.run import Run
from tfqnas.runs.searching import results_in
from tfqnas.search import ParetoFront, Result
from tfqnas.train.stages import label

# Settings that determine the images of a score.
_DATA = ("dataset", "train_split", "test_split", "test_share", "held_out", "seed", "evaluation_crop")
_BUDGETS = 5


class Comparison:
    """The searches of several runs.

    Args:
        run_dirs: directories of runs with searches.
        cost: name of the cost.

    Attributes:
        results: `{label: Result}s`. If several runs have a bit width, the label includes the name of the run.

    Raises:
        UserError: a run has no search, the runs have different images, or a search does not have the cost.
    """

    def __init__(self, run_dirs: Iterable[str | pathlib.Path], cost: str = "effective_mflops") -> None:
        runs, self.cost = [Run.existing(path) for path in run_dirs], cost
        if not runs:
            raise SettingError("run_dirs", "run directories with searches", "")
        self.results: dict[int | str | None, list[Result]] = {}
        for run in runs[1:]:
            for setting in _DATA:
                ours, theirs = getattr(run.config, setting), getattr(runs[0].config, setting)
                if ours != theirs:
                    raise UserError(
                        f"{run.directory}: expected the images of {runs[0].directory}, `{setting}={theirs}`, received "
                        f"`{setting}={ours}`"
                    )
        for run in runs:
            known = len(self.results)
            for bits in run.bit_widths:
                found = [r for r in results_in(run.directory / "search" / label(bits), run.space) if not r.estimated]
                if found and cost not in found[0].costs:
                    costs = found[0].costs
                    raise SettingError("cost", f"one of {', '.join(costs)}", cost, did_you_mean(cost, costs))
                if found:
                    own: int | str | None = bits
                    name = own if own not in self.results else f"{bits_label(bits)}, {run.directory.name}"
                    self.results[name] = found
            if len(self.results) == known:
                raise UserError(f"{run.directory}: no search yet, run tfqnas search --run_dir={run.directory}")
        self.dataset, self.images = runs[0].config.dataset, runs[0].config.held_out

    def front(self, name: int | str | None) -> tuple[Result, ...]:
        """The `Result`s on the front of a label."""
        return ParetoFront.of(self.results[name], self.cost).rows

    def figure(self, path: str | pathlib.Path) -> pathlib.Path:
        """Draws all fronts in one PNG file."""
        scored = {}
        for name, results in self.results.items():
            on_front = {row.arch for row in self.front(name)}
            scored[name] = [
                {self.cost: r.costs[self.cost], "accuracy": r.accuracy, "on_front": r.arch in on_front, **r.costs}
                for r in results
            ]
        title = f"Fronts on {self.dataset}"
        return report.pareto_figure(scored, pathlib.Path(path), title, self.dataset, self.cost)

    def table(self) -> str:
        """A table of the best accuracy of each front within some budgets, as text."""
        costs = [row.costs[self.cost] for name in self.results for row in self.front(name)]
        low = max(min(row.costs[self.cost] for row in self.front(name)) for name in self.results)
        budgets = np.geomspace(low, max(costs), _BUDGETS)
        rows = []
        for name in self.results:
            best = [[r.accuracy for r in self.front(name) if r.costs[self.cost] <= b * (1 + 1e-9)] for b in budgets]
            rows.append({"front": bits_label(name), **{f"b{i}": max(values) for i, values in enumerate(best)}})
        columns: list[tuple[str, ...]] = [("front", f"within {cost_label(self.cost)} of")]
        columns += [(f"b{i}", f"{budget:.3g}", ".2%") for i, budget in enumerate(budgets)]
        error = 100 * (0.9 * 0.1 / self.images) ** 0.5
        return (
            f"{report.table(rows, columns)}\n\nAccuracy on {self.images:,} held-out images, standard error about "
            f"{error:.1f} points at 90%."
        )
