"""Search across machines: what tools/search.py does as keras-tuner's chief, or as one of its workers."""

import hashlib
import tempfile
from collections.abc import Callable
from typing import Any

from tfqnas.integrations.keras_tuner.tuner import SearcherOracle, SubnetTuner
from tfqnas.progress import Part
from tfqnas.runs.run import Run
from tfqnas.runs.scoring import scorer_of
from tfqnas.runs.searching import FrontSearch, Known
from tfqnas.search import Objectives, ParetoFront, Result, Searcher
from tfqnas.supernet import Supernet
from tfqnas.train.stages import Bits


def find_with_workers(
    search: FrontSearch,
    part: Part,
    supernet: Supernet,
    searcher: Searcher,
    known: Known,
    on_result: Callable[[Result], None],
) -> ParetoFront:
    """The front of what `searcher` proposes, scored by workers; this process is keras-tuner's chief.

    Early stopping is for one machine: it needs more than an accuracy to be sent around.
    """
    part.update(len(known.results) / search.budget, "waiting for workers")
    # What evolution proposes needs no score in particular; others are to know all of a phase before the next.
    batch = None if search.searcher.asynchronous else searcher.generation or search.budget
    if known.former:
        searcher.tell([result.arch for result in known.former], [result.accuracy for result in known.former])
    oracle = SearcherOracle(
        searcher,
        search.objectives,
        search.budget,
        batch,
        [*known.former, *known.results],
        on_result,
        about(search.run, supernet),
        say=part.log,
    )
    SubnetTuner(oracle, None, search.directory).search()
    return ParetoFront.of(oracle.results.values(), search.objectives.minimised or None)


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
