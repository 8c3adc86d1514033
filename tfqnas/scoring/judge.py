"""Scores the proposals of a search, and compares each with its rival on the front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfqnas.arch import Arch
from tfqnas.scoring.dominated import rivals_of
from tfqnas.search import Result

if TYPE_CHECKING:
    from tfqnas.scoring.pool import Pool
    from tfqnas.scoring.score import Score
    from tfqnas.scoring.scorer import Scorer


class Judge:
    """Scores the proposals of a searcher, and gives up those that are worse than the front.

    Args:
        scorer: `Scorer` or `Pool`.
        costs: function of a list of `Arch` that returns the costs that the search minimises, float (n, k).
        early: give up worse subnets early. Their accuracy is an estimate, and they are left out of fronts.
    """

    def __init__(
        self, scorer: Scorer | Pool, costs: Callable[[Sequence[Arch]], np.ndarray], early: bool = True
    ) -> None:
        self._scorer, self._costs, self._early = scorer, costs, early
        self._outcomes: dict[
            Arch, tuple[np.ndarray, int]
        ] = {}  # packed outcomes and number of images, of fully scored subnets

    def many(self, archs: Sequence[Arch], front: Sequence[Result]) -> Iterator[tuple[int, float, dict[str, Any]]]:
        """Scores `archs`, comparing each with its rival on the current `front`.

        Args:
            archs: list of `Arch`.
            front: list of `Result`s without estimates.

        Yields:
            `(index in archs, accuracy, extras of the Result)`.
        """
        for index, score in self._scorer.score(archs, self._rivals(archs, front) if self._early else None):
            extra: dict[str, Any] = {"images": score.images}
            if score.outcomes is None:
                extra["estimated"] = True
            else:
                self._keep(archs[index], score)
            yield index, score.accuracy, extra

    def _rivals(self, archs: Sequence[Arch], front: Sequence[Result]) -> list[np.ndarray | None]:
        """The outcomes of each subnet's rival, or None for a subnet without a rival."""
        if not front:
            return [None] * len(archs)
        rows = np.column_stack([[row.accuracy for row in front], self._costs([row.arch for row in front])])
        places = rivals_of(self._costs(archs), rows)
        rivals = [None if place is None else front[place].arch for place in places]
        # Results of an earlier process have no outcomes, so rivals among them are scored again.
        missing = [arch for arch in dict.fromkeys(rivals) if arch is not None and arch not in self._outcomes]
        for index, score in self._scorer.score(missing):
            self._keep(missing[index], score)
        return [None if rival is None else self._unpacked(rival) for rival in rivals]

    def _keep(self, arch: Arch, score: Score) -> None:
        assert score.outcomes is not None  # it has seen all images
        self._outcomes[arch] = np.packbits(score.outcomes), score.images

    def _unpacked(self, arch: Arch) -> np.ndarray:
        bits, images = self._outcomes[arch]
        return np.unpackbits(bits, count=images).astype(bool)
