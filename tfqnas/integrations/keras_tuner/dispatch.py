"""Gives a searcher's architectures to workers one by one, and tells the searcher scores as they arrive."""

import collections
from collections.abc import Iterable, Sequence

from tfqnas.arch import Arch
from tfqnas.search.searcher import Searcher

# The entry of a history for a request to the searcher. Other entries are indices of architectures that were told.
_ASKED = -1
# Give up after this many requests in a row without a new architecture.
_MAX_REQUESTS_WITHOUT_NEWS = 100


class Dispatch:
    """The counterpart of `search.run` for scores that arrive later, in any order and from other processes.

    Without `batch` an architecture is asked for when a worker wants one, and its score is told as it arrives. This is
    for searchers that learn at any time. With `batch` this number is asked for at a time, and scores are told together
    and in order when all have arrived; until then there may be nothing to give out. A search then does not depend on
    the order in which workers score. `CoarseToFine` needs it, and returns one phase for any number.

    Args:
        searcher: `Searcher` that has not been asked yet.
        budget: number of different architectures to propose, including known ones.
        batch: number of architectures to ask for at a time, or None.
        known: `{Arch: accuracy}` of an earlier process. These are told and not given out. The dictionary is not copied,
            and new scores are added to it.

    Attributes:
        history: list of integers from which `replay` restores this state; empty with `batch`, when scores suffice.
    """

    def __init__(
        self, searcher: Searcher, budget: int, batch: int | None = None, known: dict[Arch, float] | None = None
    ) -> None:
        self._searcher, self._budget, self._batch = searcher, budget, batch
        self._known = {} if known is None else known
        self._places: dict[Arch, int] = {}  # the index of each proposed architecture
        self._queue: collections.deque[Arch] = collections.deque()
        self._out: set[Arch] = set()
        self._asked: list[Arch] = []  # the current batch, which has not been told yet
        self._ended, self._idle = False, 0
        self.history: list[int] = []

    def next(self) -> Arch | None:
        """The next `Arch` to score; None if other scores must be told first, or if the search is `done`.

        Raises:
            ValueError: the searcher raises it.
        """
        self._settle()
        if not self._queue:
            return None
        arch = self._queue.popleft()
        self._out.add(arch)
        return arch

    def tell(self, arch: Arch, accuracy: float) -> None:
        """Takes the score of an architecture, which need not have been given out by this process."""
        self._known[arch] = accuracy
        if arch in self._out:
            self._out.remove(arch)
            self._pass_on(arch)
            self._ended = False  # with a new score the searcher may have new proposals

    @property
    def waiting(self) -> bool:
        """Whether some architectures that were given out have no score yet."""
        return bool(self._out)

    @property
    def done(self) -> bool:
        """Whether all proposals are scored and no more will come."""
        if not self._out:
            self._settle()
        return not (self._out or self._queue)

    def replay(self, history: Sequence[int]) -> None:
        """Repeats the requests and scores of an earlier process in their order, as far as the scores are known."""
        for place in history if self._batch is None else ():
            if place == _ASKED:
                self._ask()
                continue
            arch = next((arch for arch in self._queue if self._places[arch] == place), None)
            if arch not in self._known:  # a line of the log was lost, so the search takes another course from here
                return
            self._queue.remove(arch)
            self._pass_on(arch)

    def take(self, archs: Iterable[Arch]) -> None:
        """Marks architectures as given out, since workers that got them from an earlier process still score them."""
        self._settle()
        for arch in archs:
            if arch in self._queue:
                self._queue.remove(arch)
                self._out.add(arch)

    def _settle(self) -> None:
        """Asks, and tells known scores, until there is an architecture to give out, a score to wait for, or an end."""
        while not self._queue or self._queue[0] in self._known:
            if self._queue:
                self._pass_on(self._queue.popleft())
            elif self._ended or (self._batch and self._out):
                return
            else:
                self._ask()

    def _ask(self) -> None:
        if self._batch and self._asked:
            self._searcher.tell(self._asked, [self._known[arch] for arch in self._asked])
        wanted = min(self._batch or 1, self._budget - len(self._places))
        archs = self._searcher.ask(wanted) if wanted > 0 else []
        new = [arch for arch in dict.fromkeys(archs) if arch not in self._places]
        self._idle = 0 if new else self._idle + 1
        self._ended = not archs or self._idle >= _MAX_REQUESTS_WITHOUT_NEWS
        for arch in new:
            self._places[arch] = len(self._places)
        self._queue.extend(new)
        self._asked = new
        if self._batch is None and wanted > 0:
            self.history.append(_ASKED)

    def _pass_on(self, arch: Arch) -> None:
        if self._batch is None:
            self.history.append(self._places[arch])
            self._searcher.tell([arch], [self._known[arch]])
