"""The scorers of a run's supernets."""

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


# Subnets from which on processes of their own are worth their start, and the bytes of memory for each.
_MANY = 1000
_MEMORY = 2 * 2**30


def scorer_of(run: Run, supernet: Supernet) -> Scorer:
    """A `Scorer` with the run's images: recalibration on training images, accuracy on those held out for it."""
    limit = run.config.recalibration_images
    return Scorer(
        supernet,
        lambda resolution: run.evaluator.images("train", resolution, limit),
        lambda resolution: run.evaluator.images("held_out", resolution),
    )


def open_scorer(run_dir: str, bits: Bits, threads: int) -> Scorer:
    """The same in a process of its own, which computes with so many threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfqnas.runs.run import Run

    run = Run.existing(run_dir)
    return scorer_of(run, run.networks.supernet(bits))


def processes_for(budget: int) -> int:
    """How many processes score so many subnets soonest: one a core, with gigabytes for each, or this one alone.

    TensorFlow's own threads share a supernet's small operations badly: a process a core scores 1.6 to 1.8 times as many
    subnets of `tiny` on two cores. Each process needs some 15 seconds for its imports and traces.
    """
    if budget < _MANY:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, memory // _MEMORY))


def scoring(
    run: Run, bits: Bits, supernet: Supernet, workers: int, budget: int, say: Callable[[str], None] = print
) -> AbstractContextManager[Scorer | Pool]:
    """A context in which there is a scorer: in this process, or several that have shares of the processor's cores.

    Args:
        workers: how many processes; 0: `processes_for` the budget. budget: number of subnets.
    """
    workers = workers or processes_for(budget)
    if workers == 1:
        return contextlib.nullcontext(scorer_of(run, supernet))
    threads = max(1, (os.cpu_count() or 1) // workers)
    return Pool(functools.partial(open_scorer, str(run.directory), bits, threads), run.space, workers, say)
