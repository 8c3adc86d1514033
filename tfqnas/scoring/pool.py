"""Scores subnets in several processes on one machine."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tfqnas.arch import Arch
from tfqnas.errors import UserError
from tfqnas.scoring.prefixes import common_length, path_of
from tfqnas.spaces import SearchSpace

if TYPE_CHECKING:
    from tfqnas.scoring.score import Score
    from tfqnas.scoring.scorer import Scorer

# The most pieces per process. More pieces let processes end at the same time; fewer share more computation. Beyond one
# piece per process at most this fraction of the computation is done twice.
_PIECES = 4
_TWICE = 0.1
# The search gives up after this many processes have ended in a row without a single score.
_ENDS = 3


class Pool:
    """Several processes that score subnets, with the interface of a `Scorer`. Use it in a `with` statement.

    A killed process is replaced, and another process scores the rest of its subnets. A score depends neither on the
    process nor on what else the process has scored.

    Args:
        make: picklable function without arguments that makes the `Scorer` of a process.
        space: `SearchSpace`.
        processes: number of processes.
        say: called with lines for the user.
    """

    def __init__(
        self, make: Callable[[], Scorer], space: SearchSpace, processes: int, say: Callable[[str], None] = print
    ) -> None:
        self._make, self._space, self._processes, self._say = make, space, processes, say
        self._workers: list[_Worker] = []
        self._ends = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def score(
        self, archs: Sequence[Arch], rivals: Sequence[np.ndarray | None] | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Scores subnets like `Scorer.score`.

        Raises:
            UserError: a process fails, or several processes in a row end without a score.
        """
        rivals = rivals or [None] * len(archs)
        waiting = self._pieces(archs)
        while waiting or any(worker.busy for worker in self._workers):
            self._employ(waiting, archs, rivals)
            busy: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers if worker.busy}
            for connection in multiprocessing.connection.wait(list(busy)):
                worker = busy[connection]
                try:
                    index, score = worker.receive()
                except (EOFError, OSError):
                    waiting += [worker.piece] if worker.piece else []
                    self._replace(worker)
                    continue
                self._ends = 0
                if score is not None and index is not None:
                    yield index, score

    def _pieces(self, archs: Sequence[Arch]) -> list[list[int]]:
        """Lists of indices of subnets; the subnets of a list share beginnings."""
        paths = [(archs[i].resolution, *path_of(self._space, archs[i])) for i in range(len(archs))]
        order = sorted(range(len(archs)), key=paths.__getitem__)
        return [order[i:j] for i, j in split([paths[i] for i in order], self._processes)]

    def _employ(self, waiting: list[list[int]], archs: Sequence[Arch], rivals: Sequence[np.ndarray | None]) -> None:
        idle = [worker for worker in self._workers if not worker.busy]
        while waiting and (idle or len(self._workers) < self._processes):
            if not idle:
                self._workers.append(_Worker(self._make))
                idle = self._workers[-1:]
            worker, piece = idle.pop(), waiting.pop(0)
            worker.begin(piece, [archs[i] for i in piece], [rivals[i] for i in piece])

    def _replace(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        code = worker.stop()
        self._ends += 1
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code and code < 0 else f"with exit code {code}"
        if self._ends >= _ENDS:
            raise UserError(
                f"`workers={self._processes}`: {self._ends} scoring processes ended one after the other, the last "
                f"{how}; if memory is short, take fewer"
            )
        self._say(f"a scoring process ended {how}; another one continues with its {len(worker.piece)} subnets")


def split(paths: Sequence[tuple[Any, ...]], processes: int) -> list[tuple[int, int]]:
    """Divides sorted paths into pieces with a similar amount of computation, little of which is done twice.

    Args:
        paths: sorted tuples of equal length, as `walk` takes them.
        processes: number of processes.

    Returns:
        `[(start, end)]`, the pieces with most computation first.
    """
    if not paths:
        return []
    length = len(paths[0])
    own = [length, *(length - common_length(a, b) for a, b in itertools.pairwise(paths))]
    before = [0, *itertools.accumulate(own)]

    def cost(start: int, end: int) -> int:
        return length + before[end] - before[start + 1]

    pieces, twice = [(0, len(paths))], 0
    while len(pieces) < _PIECES * processes:
        start, end = piece = max(pieces, key=lambda piece: (piece[1] - piece[0] > 1, cost(*piece)))
        if end - start == 1:
            break
        cut = min(range(start + 1, end), key=lambda i: max(cost(start, i), cost(i, end)))
        twice += length - own[cut]
        if len(pieces) >= processes and twice > _TWICE * before[-1]:
            break
        pieces.remove(piece)
        pieces += [(start, cut), (cut, end)]
    return sorted(pieces, key=lambda piece: cost(*piece), reverse=True)


class _Worker:
    """A process. `piece` holds the indices that it has been given and has not scored yet."""

    def __init__(self, make: Callable[[], Scorer]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(make, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is noticed
        self.busy = False
        self.piece: list[int] = []
        self._numbers: list[int] = []

    def begin(self, piece: Sequence[int], archs: Sequence[Arch], rivals: Sequence[np.ndarray | None]) -> None:
        self.busy, self.piece, self._numbers = True, list(piece), list(piece)
        with contextlib.suppress(OSError):  # `receive` notices a process that has ended
            self.connection.send((archs, rivals))

    def receive(self) -> tuple[int, Score] | tuple[None, None]:
        """The next `(index, Score)`, or `(None, None)` at the end of the piece."""
        kind, *content = self.connection.recv()
        if kind == "error":
            raise UserError(f"a scoring process failed:\n{content[0]}")
        if kind == "done":
            self.busy = False
            return None, None
        place, score = content
        self.piece.remove(self._numbers[place])
        return self._numbers[place], score

    def stop(self) -> int | None:
        """Ends the process and returns its exit code."""
        self.connection.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()
        return self._process.exitcode


def _work(make: Callable[[], Scorer], connection: multiprocessing.connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the main process handles Ctrl-C
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        scorer = make()
        while True:
            archs, rivals = connection.recv()
            for place, score in scorer.score(archs, rivals):
                connection.send(("score", place, score))
            connection.send(("done",))
    except (EOFError, BrokenPipeError):
        sys.exit(0)  # the main process has ended
    except Exception:
        connection.send(("error", traceback.format_exc()))
