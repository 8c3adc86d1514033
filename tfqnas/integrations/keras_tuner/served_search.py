"""Search on several machines, as keras-tuner's chief or as one of its workers."""

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
    """The front of the proposals of `searcher`, which workers score. This process is keras-tuner's chief.

    Subnets are not given up early, since that would need more than accuracies to be sent between machines.
    """
    part.update(len(known.results) / search.budget, "waiting for workers")
    # An asynchronous searcher can propose at any time; others need all scores of a phase before the next one.
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
    """Scores subnets for the chief until it has no more.

    A worker reads the data set, and `config.json`, `space.json` and `checkpoints/supernet_b*` of the run directory. It
    writes nothing there. Only the chief uses the flags of the search.
    """
    supernet = run.networks.supernet(bits)
    # This oracle is only compared with the chief's, which gives out the architectures.
    oracle = SearcherOracle(Searcher(), Objectives(run.space, {}), 0, about=about(run, supernet))
    with tempfile.TemporaryDirectory() as directory:
        SubnetTuner(oracle, scorer_of(run, supernet), directory).search()


def about(run: Run, supernet: Supernet) -> dict[str, Any]:
    """The facts in which chief and workers must agree for scores to be comparable."""
    digest = hashlib.sha256()
    for variable in supernet.variables:
        digest.update(variable.numpy().tobytes())
    images = {"recalibration_images": run.config.recalibration_images, "held_out_images": len(run.dataset.held_out)}
    return {"bits": supernet.bits, "supernet": digest.hexdigest()[:16], **images}
