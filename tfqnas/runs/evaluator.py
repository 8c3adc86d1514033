"""Recalibrates and scores the networks of a run on its images."""

import collections
from collections.abc import Sequence

import numpy as np

from tfqnas.arch import Arch
from tfqnas.data.images import EvaluationImages
from tfqnas.runs.directory import RunDirectory
from tfqnas.supernet import Supernet
from tfqnas.train.calibrate import accuracy, recalibrate, subnet_logits
from tfqnas.train.subnet_net import SubnetNet


class Evaluator:
    """Recalibrates and scores subnets on the images of a run.

    Args:
        run: `RunDirectory`.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._images: collections.OrderedDict[tuple[str, int, int | None], EvaluationImages] = (
            collections.OrderedDict()
        )  # the most recently used is last

    def images(self, split: str, resolution: int, limit: int | None = None) -> EvaluationImages:
        """The `EvaluationImages` of a split at a resolution, cached within `cache_gb`.

        A `limit` takes this number of images at random, the same ones on each call.
        """
        key = (split, resolution, limit)
        if key not in self._images:
            chosen, budget = self._run.dataset.split(split), self._run.config.cache_gb * 1e9
            if limit is not None and limit < len(chosen):
                chosen = chosen.take(np.random.default_rng((self._run.config.seed, 2)).permutation(len(chosen))[:limit])
            images = EvaluationImages(chosen, resolution, self._run.config.evaluation_crop, budget)
            while self._images and images.nbytes + sum(kept.nbytes for kept in self._images.values()) > budget:
                self._images.popitem(last=False)
            self._images[key] = images
        self._images.move_to_end(key)
        return self._images[key]

    def recalibrate(self, supernet: Supernet | SubnetNet, arch: Arch) -> list[np.ndarray]:
        """BatchNorm statistics of a subnet from training images at its resolution; [] for a `SubnetNet`."""
        if isinstance(supernet, SubnetNet):
            return []
        images = self.images("train", arch.resolution, self._run.config.recalibration_images)
        return recalibrate(supernet, self._run.space.encode(arch), images)

    def accuracy(
        self, supernet: Supernet | SubnetNet, arch: Arch, split: str, statistics: Sequence[np.ndarray] | None = None
    ) -> float:
        """The accuracy of a subnet on a split, after recalibration unless `statistics` are given."""
        statistics = self.recalibrate(supernet, arch) if statistics is None else statistics
        images = self.images(split, arch.resolution)
        return accuracy(subnet_logits(supernet, self._run.space.encode(arch), statistics, images), images.labels)
