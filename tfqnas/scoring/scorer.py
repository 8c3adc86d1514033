"""`Scorer` computes the accuracy of many subnets of one supernet."""

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfqnas.arch import Arch
from tfqnas.data.images import EvaluationImages
from tfqnas.scoring.dominated import estimate, is_behind
from tfqnas.scoring.pieces import Parts, with_fixed_weights
from tfqnas.scoring.prefixes import path_of, walk
from tfqnas.scoring.score import Score
from tfqnas.supernet import Supernet
from tfqnas.train.calibrate import check_finite, pooled

_END = "end"
_PIXELS_AT_ONCE = 2**18


class Scorer:
    """Scores subnets as `recalibrate` and `predict` do, in a fraction of the time.

    - Half a block (`Parts`) is computed once for all subnets that agree up to it, since nothing else determines its
      input and its statistics.
    - Weights are fake-quantized once (`with_fixed_weights`).
    - BatchNorm with known statistics is folded into the convolution before it. This rounds differently, so that one or
      two of a thousand predictions may differ from those of `predict`.
    - A subnet that is worse than a rival by more than chance explains skips the remaining images.

    Args:
        supernet: `Supernet`.
        recalibration: function of a resolution that returns the `EvaluationImages` for BatchNorm's statistics.
        held_out: the same for the images to classify, which are in random order as those of `DataSet.held_out`.
        first_look: number of images after which a subnet may be given up for the first time; the next look comes after
            twice as many.
        batch_size: images per batch of recalibration, as in `recalibrate`.
        shown_at_once: images per batch of scoring. By default small images come in larger batches, since the overhead
            of calls would be a sixth of the time.
    """

    def __init__(
        self,
        supernet: Supernet,
        recalibration: Callable[[int], EvaluationImages],
        held_out: Callable[[int], EvaluationImages],
        first_look: int = 256,
        batch_size: int = 128,
        shown_at_once: int | None = None,
    ) -> None:
        self.space = supernet.space
        self._parts = Parts(with_fixed_weights(supernet))
        self._recalibration, self._held_out = recalibration, held_out
        self._first_look, self._batch_size, self._shown_at_once = first_look, batch_size, shown_at_once

    def score(
        self, archs: Sequence[Arch], rivals: Sequence[np.ndarray | None] | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Scores subnets, and computes common beginnings once.

        Args:
            archs: list of `Arch`.
            rivals: None, or for each subnet the outcomes of its rival, bool (images,), or None.

        Yields:
            `(index in archs, Score)`, in any order.
        """
        rivals = rivals or [None] * len(archs)
        groups = collections.defaultdict(list)
        for index, arch in enumerate(archs):
            groups[arch.resolution].append(index)
        for resolution in sorted(groups):
            yield from self._score_group(resolution, groups[resolution], archs, rivals)

    def _score_group(
        self, resolution: int, members: Sequence[int], archs: Sequence[Arch], rivals: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[int, Score]]:
        paths = {i: path_of(self.space, archs[i]) for i in members}
        statistics = self._statistics(resolution, list(paths.values()))
        seen: dict[int, list[np.ndarray]] = {i: [] for i in members}
        done = 0
        for batches, labels in self._shown(resolution):
            done += len(labels)
            last = done == len(self._held_out(resolution))
            running = [i for i in members if i in seen]
            for place, classes in self._classes([paths[i] for i in running], batches, statistics):
                i, rival = running[place], rivals[running[place]]
                seen[i].append(classes == labels)
                outcomes = np.concatenate(seen[i])
                if last:
                    yield i, Score(float(outcomes.mean()), done, outcomes)
                elif rival is not None and is_behind(outcomes, rival):
                    del seen[i]
                    yield i, Score(estimate(outcomes, rival), done, None)

    def _shown(self, resolution: int) -> Iterator[tuple[list[tf.Tensor], np.ndarray]]:
        """Yields `(batches, labels)` of the first look, then of as many images again, then twice as many each time."""
        images = self._held_out(resolution)
        at_once = self._shown_at_once or min(512, max(128, _PIXELS_AT_ONCE // resolution**2))
        batches, labels = images.batches(at_once), np.asarray(images.labels)
        size, start = -(-self._first_look // at_once), 0
        while piece := [tf.constant(batch) for batch in itertools.islice(batches, size)]:
            end = start + sum(map(len, piece))
            yield piece, labels[start:end]
            size, start = (2 * size if start else size), end

    # Networks

    def _statistics(self, resolution: int, paths: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[tf.Tensor]]:
        """BatchNorm's statistics of the last piece of each path prefix; a path followed by `_END` has the head's."""
        images = self._recalibration(resolution)
        size = min(self._batch_size, len(images))
        batches = [(tf.constant(batch),) for batch in images.batches(size) if len(batch) == size]
        found = {}

        def keep(prefix: tuple[Any, ...], observers: Sequence[Any], results: Sequence[Any]) -> Sequence[Any]:
            states, own = zip(*results, strict=True)
            found[prefix] = [tf.constant(s) for s in pooled(observers, own)]
            return states

        def step(states: Sequence[Any], prefix: tuple[Any, ...]) -> Sequence[Any]:
            place = len(prefix) - 1
            if not prefix[-1] or place == self._parts.pieces:
                return states
            piece = self._parts.piece(place, prefix[-1], collect=True)
            return keep(prefix, self._parts.observers_of(place), self._each(piece, states))

        root = keep((), self._parts.begin_observers, self._each(self._parts.begin(collect=True), batches))
        for index, states in walk(paths, root, step):
            end = self._parts.end(paths[index][-1], collect=True)
            keep((*paths[index], _END), self._parts.end_observers, self._each(end, states))
        return found

    def _classes(
        self,
        paths: Sequence[tuple[Any, ...]],
        batches: Sequence[tf.Tensor],
        statistics: Mapping[tuple[Any, ...], list[tf.Tensor]],
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields `(index of a path, int (n,) class of each image)`."""

        def step(states: Sequence[Any], prefix: tuple[Any, ...]) -> Sequence[Any]:
            place = len(prefix) - 1
            if not prefix[-1] or place == self._parts.pieces:
                return states
            return self._each(self._parts.piece(place, prefix[-1], collect=False), states, statistics[prefix])

        root: Sequence[Any] = self._each(
            self._parts.begin(collect=False), [(batch,) for batch in batches], statistics[()]
        )
        for index, states in walk(paths, root, step):
            end = self._parts.end(paths[index][-1], collect=False)
            logits = self._each(end, states, statistics[(*paths[index], _END)])
            whole = np.concatenate([of_batch for (of_batch,) in logits])
            yield index, check_finite(whole, "a subnet").argmax(axis=1)

    def _each(self, piece: Callable[..., Any], states: Sequence[Any], *statistics: Any) -> list[Any]:
        """Applies a piece to the states of all batches."""
        return [piece(state, *statistics) for state in states]
