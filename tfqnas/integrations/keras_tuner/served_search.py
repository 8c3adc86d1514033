"""Search across machines: what tools/search.py does as keras-tuner's chief, or as one of its workers."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from tfqnas.integrations.keras_tuner.tuner import SearcherOracle, SubnetTuner
from tfqnas.progress import Part
from tfqnas.runs.family import Family
from tfqnas.runs.run import Run
from tfqnas.runs.scoring import scorer_of
from tfqnas.runs.searching import FrontSearch
from tfqnas.search import Objectives, ParetoFront, Result, Searcher
from tfqnas.supernet import Supernet
from tfqnas.train.stages import Bits


class ServedFamily(Family):
    """A family whose subnets are scored by workers; the chief does the rest."""

    def _new_search(self, bits: Bits) -> FrontSearch:
        return ServedSearch(self.run, self.config, bits, self.directory(bits))


class ServedSearch(FrontSearch):
    """A `FrontSearch` as keras-tuner's chief."""

    def find(
        self,
        part: Part,
        supernet: Supernet,
        searcher: Searcher,
        results: Sequence[Result],
        on_result: Callable[[Result], None],
        former: Sequence[Result] = (),
    ) -> ParetoFront:
        """As `FrontSearch.find`, but for early stopping, which needs more than an accuracy to be sent around."""
        part.update(len(results) / self.budget, "waiting for workers")
        # What evolution proposes needs no score in particular; others are to know all of a phase before the next.
        batch = None if self.config.search in ("nsga2", "ageing") else searcher.generation or self.budget
        if former:
            searcher.tell([result.arch for result in former], [result.accuracy for result in former])
        oracle = SearcherOracle(
            searcher,
            self.objectives,
            self.budget,
            batch,
            [*former, *results],
            on_result,
            about(self.run, supernet),
            say=part.log,
        )
        SubnetTuner(oracle, None, self.directory).search()
        return ParetoFront.of(oracle.results.values(), self.objectives.minimised or None)


def work(run: Run, bits: Bits) -> None:
    """Scores for the chief until it has no more.

    A worker reads of the run directory `config.json`, `space.json` and `checkpoints/supernet_b*`, and the data set; it
    writes nothing there. The flags of the search are the chief's affair.
    """
    supernet = run.networks.supernet(bits)
    # It is compared with the chief's, which alone is asked.
    oracle = SearcherOracle(Searcher(), Objectives(run.space, {}), 0, about=about(run, supernet))
    with tempfile.TemporaryDirectory() as directory:
        SubnetTuner(oracle, scorer_of(run, supernet), directory).search()


def about(run: Run, supernet: Supernet) -> dict[str, Any]:
    """What chief and workers must have in common for a score to mean the same."""
    digest = hashlib.sha256()
    for variable in supernet.variables:
        digest.update(variable.numpy().tobytes())
    images = {"recalibration_images": run.config.recalibration_images, "held_out_images": len(run.dataset.held_out)}
    return {"bits": supernet.bits, "supernet": digest.hexdigest()[:16], **images}
