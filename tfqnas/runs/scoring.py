"""Makes scorers for the supernets of a run, in this process or in several."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from tfqnas.scoring.pool import Pool
from tfqnas.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tfqnas.runs.run import Run
    from tfqnas.supernet import Supernet
    from tfqnas.train.stages import Bits


# Separate processes are worth their start from this many subnets on, and each needs this many bytes of memory.
_MANY = 1000
_MEMORY = 2 * 2**30


def scorer_of(run: Run, supernet: Supernet) -> Scorer:
    """A `Scorer` with the run's training images for recalibration and its held-out images for accuracy."""
    limit = run.config.recalibration_images
    return Scorer(
        supernet,
        lambda resolution: run.evaluator.images("train", resolution, limit),
        lambda resolution: run.evaluator.images("held_out", resolution),
    )


def open_scorer(run_dir: str, bits: Bits, threads: int) -> Scorer:
    """The same `Scorer` for a separate process, which computes with the given number of threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfqnas.runs.run import Run

    run = Run.existing(run_dir)
    return scorer_of(run, run.networks.supernet(bits))


def processes_for(budget: int) -> int:
    """The number of processes that score `budget` subnets fastest: one per core if memory suffices, or only this one.

    TensorFlow's threads share the small operations of a supernet badly. On two cores a process per core scores 1.6 to
    1.8 times as many subnets of `tiny`. Each process takes about 15 seconds for imports and traces.
    """
    if budget < _MANY:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, memory // _MEMORY))


def scoring(
    run: Run, bits: Bits, supernet: Supernet, workers: int, budget: int, say: Callable[[str], None] = print
) -> AbstractContextManager[Scorer | Pool]:
    """A context with a scorer, in this process or in several that divide the processor's cores among them.

    Args:
        run: `Run`.
        bits: bit width of the supernet.
        supernet: `Supernet`.
        workers: number of processes; 0 for `processes_for(budget)`.
        budget: number of subnets.
        say: called with lines for the user.
    """
    workers = workers or processes_for(budget)
    if workers == 1:
        return contextlib.nullcontext(scorer_of(run, supernet))
    threads = max(1, (os.cpu_count() or 1) // workers)
    return Pool(functools.partial(open_scorer, str(run.directory), bits, threads), run.space, workers, say)
