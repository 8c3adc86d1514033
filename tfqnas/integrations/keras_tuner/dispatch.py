"""A searcher's architectures given out one by one, to whoever is free, and told as their scores come."""

import collections
from collections.abc import Iterable, Sequence

from tfqnas.arch import Arch
from tfqnas.search.searcher import Searcher

# In a history: an architecture was asked for. Other entries are places of architectures that were told.
_ASKED = -1
# A searcher that has nothing new in so many requests will not have it in the next either.
_MAX_REQUESTS_WITHOUT_NEWS = 100


class Dispatch:
    """What `search.run` does, for scores that come later, in any order and to another process.

    Args:
        searcher: `Searcher` that nobody has asked yet.
        budget: number of different architectures to propose, known ones included.
        batch: None: an architecture is asked for when somebody wants one, and its score is told as it comes. That is
            for searchers that learn at any time. A number: so many are asked for at a time, and told together and in
            order when all of them are scored; until then there may be nothing to give out. With that a search does not
            depend on who scores when. `CoarseToFine` needs it, and returns one phase, however many are asked for.
        known: mapping of `Arch` to accuracy, of an earlier process; these are told, not given out. It is kept, not
            copied, and gets the scores that are told.

    Attributes:
        history: list of integers that JSON can hold; `replay` makes of it what this is. Empty if there is a `batch`:
            then scores alone decide.
    """

    def __init__(
        self, searcher: Searcher, budget: int, batch: int | None = None, known: dict[Arch, float] | None = None
    ) -> None:
        self._searcher, self._budget, self._batch = searcher, budget, batch
        self._known = {} if known is None else known
        self._places: dict[Arch, int] = {}  # of all that was proposed, in order
        self._queue: collections.deque[Arch] = collections.deque()
        self._out: set[Arch] = set()
        self._asked: list[Arch] = []  # of a batch, not told yet
        self._ended, self._idle = False, 0
        self.history: list[int] = []

    def next(self) -> Arch | None:
        """The next `Arch` to be scored; None: there is none before other scores are told, or none any more (`done`).

        Raises:
            ValueError: of the searcher.
        """
        self._settle()
        if not self._queue:
            return None
        arch = self._queue.popleft()
        self._out.add(arch)
        return arch

    def tell(self, arch: Arch, accuracy: float) -> None:
        """Takes a score, also of an architecture that was not given out, or not by this process."""
        self._known[arch] = accuracy
        if arch in self._out:
            self._out.remove(arch)
            self._pass_on(arch)
            self._ended = False  # a searcher that had nothing new may have learnt something

    @property
    def waiting(self) -> bool:
        """Whether scores of architectures that were given out are missing."""
        return bool(self._out)

    @property
    def done(self) -> bool:
        """Whether all is scored and nothing more will be proposed."""
        if not self._out:
            self._settle()
        return not (self._out or self._queue)

    def replay(self, history: Sequence[int]) -> None:
        """Repeats what an earlier process asked and told, in this order, as far as its scores are known."""
        for place in history if self._batch is None else ():
            if place == _ASKED:
                self._ask()
                continue
            arch = next((arch for arch in self._queue if self._places[arch] == place), None)
            if arch not in self._known:  # a line of the log was lost: from here on it is another search
                return
            self._queue.remove(arch)
            self._pass_on(arch)

    def take(self, archs: Iterable[Arch]) -> None:
        """Counts architectures as given out: who got them from an earlier process is still at work."""
        self._settle()
        for arch in archs:
            if arch in self._queue:
                self._queue.remove(arch)
                self._out.add(arch)

    def _settle(self) -> None:
        """Asks, and tells what is known, until there is something to give out, or to wait for, or an end."""
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
