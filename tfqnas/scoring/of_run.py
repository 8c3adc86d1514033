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

    from tfqnas.supernet import Supernet
    from tfqnas.train.run import Run
    from tfqnas.train.stages import Bits


def scorer_of(run: Run, supernet: Supernet) -> Scorer:
    """A `Scorer` with the run's images: recalibration on training images, accuracy on those held out for it."""
    limit = run.config.recalibration_images
    return Scorer(
        supernet, lambda resolution: run.images("train", resolution, limit),
        lambda resolution: run.images("held_out", resolution),
    )  # fmt: skip


def open_scorer(run_dir: str, bits: Bits, threads: int) -> Scorer:
    """The same in a process of its own, which computes with so many threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfqnas.train.run import Run

    run = Run.existing(run_dir)
    return scorer_of(run, run.supernet(bits))


def scoring(
    run: Run, bits: Bits, supernet: Supernet, workers: int, say: Callable[[str], None] = print
) -> AbstractContextManager[Scorer | Pool]:
    """A context in which there is a scorer: in this process, or several that have shares of the processor's cores."""
    if workers == 1:
        return contextlib.nullcontext(scorer_of(run, supernet))
    threads = max(1, (os.cpu_count() or 1) // workers)
    return Pool(functools.partial(open_scorer, str(run.directory), bits, threads), run.space, workers, say)
