"""The data of the analyses: the supernets of a run, their fronts, and stored outcomes of subnets."""

import base64
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from tfqnas.arch import Arch
from tfqnas.files import append_jsonl, read_jsonl, warn
from tfqnas.records import Positive, Share
from tfqnas.runs.run import Run
from tfqnas.runs.searching import FrontSearch, front_in, is_current, results_in
from tfqnas.scoring.prefixes import path_of
from tfqnas.scoring.scorer import Scorer
from tfqnas.search import ParetoFront, Result
from tfqnas.search.directory import settings_in
from tfqnas.search.search_config import SearchConfig
from tfqnas.settings import read_back
from tfqnas.spaces import SearchSpace
from tfqnas.supernet import Supernet
from tfqnas.train.calibrate import subnet_logits
from tfqnas.train.stages import Bits, label

# Number of subnets that are scored together. More share more computation; of fewer less is lost by a kill.
_TOGETHER = 12


class _Outcomes(TypedDict):
    """A line of a file of scores; `outcomes` are packed bits in base64."""

    arch: Arch
    accuracy: Share
    images: Positive
    outcomes: str
    supernet: NotRequired[str]


def _check(space: SearchSpace, record: _Outcomes) -> None:
    space.validate(record["arch"])
    packed, images = base64.b64decode(record["outcomes"], validate=True), record["images"]
    if len(packed) != -(-images // 8):
        raise ValueError(f"outcomes: expected {images} bits, received {len(packed)} bytes")
    right = int(np.unpackbits(np.frombuffer(packed, np.uint8), count=images).sum())
    if round(record["accuracy"] * images) != right:
        raise ValueError(f"accuracy: expected {right / images:g} as its outcomes, received {record['accuracy']:g}")


class Supernets:
    """The supernets of a run, for the analyses.

    Scores are appended to files such as `analysis/scores/b4_held_out.jsonl` as they arrive, and never computed twice.

    Args:
        run: `Run` with trained supernets.

    Attributes:
        bits: bit widths from the highest down, preceded by None if the run has a float supernet.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.bits = (*((None,) if run.config.float_supernet_epochs else ()), *run.bit_widths)
        self._known: dict[tuple[Bits, str], dict[Arch, tuple[np.ndarray, int]]] = {}
        self._scorer: tuple[Bits, Any] = (0, None)
        self._split = ""

    @property
    def directory(self) -> Path:
        """The directory of the analyses."""
        return self.run.directory / "analysis"

    @property
    def source(self) -> Bits:
        """The supernet with which others are compared: floating point, or the highest bit width."""
        return self.bits[0]

    @property
    def source_note(self) -> str:
        """A sentence if the source is not floating point as in the paper, otherwise ""."""
        if self.source is None:
            return ""
        return (
            f"This run has no float supernet, so its {self.source}-bit supernet takes that place; "
            "tfqnas analyze --float_supernet_epochs trains one."
        )

    def above(self, bits: Bits) -> tuple[Bits, ...]:
        """The supernets with more bits, from the highest down."""
        return self.bits[: self.bits.index(bits)]

    def pairs(self) -> list[tuple[Bits, Bits]]:
        """All pairs `(more bits, fewer bits)`."""
        return list(itertools.combinations(self.bits, 2))

    # Fronts

    def search_directory(self, bits: Bits) -> Path:
        """The directory of the search of a supernet."""
        return self.run.directory / "search" / label(bits)

    def front(self, bits: Bits) -> ParetoFront | None:
        """The `ParetoFront` of the search of a supernet, or None without a search."""
        directory = self.search_directory(bits)
        return front_in(directory, self.run.space) if is_current(self.run, bits, directory) else None

    def searched(self, bits: Bits) -> list[Result]:
        """The `Result`s of the search of a supernet, without estimates."""
        return [result for result in results_in(self.search_directory(bits), self.run.space) if not result.estimated]

    @functools.cached_property
    def float_search(self) -> FrontSearch | None:
        """The search of the float supernet with the settings of the highest bit width's search; None without either.

        Limits that depend on the bit width do not apply, since a search in floating point could not apply them either.
        """
        directory = self.search_directory(self.run.bit_widths[0])
        kept = settings_in(directory)
        if self.source is not None or kept is None:
            return None
        config = dataclasses.replace(
            read_back(SearchConfig, kept[0], str(directory / "config.json")), max_effective_mflops=0.0, max_kb=0.0
        )
        return FrontSearch(self.run, config, None, self.search_directory(None))

    # Scores

    def outcomes(self, bits: Bits, arch: Arch, split: str = "held_out") -> np.ndarray | None:
        """bool (images,): the images of a split that a subnet classifies correctly; None if it is not scored."""
        packed = self._kept(bits, split).get(arch)
        return None if packed is None else np.unpackbits(packed[0], count=packed[1]).astype(bool)

    def accuracy(self, bits: Bits, arch: Arch, split: str = "held_out") -> float | None:
        """The accuracy of a subnet on a split, or None if it is not scored."""
        outcomes = self.outcomes(bits, arch, split)
        return None if outcomes is None else float(outcomes.mean())

    def missing(self, bits: Bits, archs: Iterable[Arch], split: str = "held_out") -> list[Arch]:
        """The architectures that are not scored, with similar ones next to each other."""
        kept, space = self._kept(bits, split), self.run.space
        new = [arch for arch in dict.fromkeys(archs) if arch not in kept]
        return sorted(new, key=lambda arch: (arch.resolution, path_of(space, arch)))

    def work(self, archs: Iterable[Arch], split: str = "held_out") -> float:
        """Relative work of scoring subnets, in the unit of `Costs.work`."""
        data = self.run.dataset
        images = min(self.run.config.recalibration_images, len(data.train)) + len(data.split(split))
        return images * sum(self.run.costs.of(arch, None)["mmacs"] for arch in archs)

    def score(
        self,
        bits: Bits,
        archs: Iterable[Arch],
        split: str = "held_out",
        on_score: Callable[[Arch], object] = lambda arch: None,
    ) -> None:
        """Scores the missing architectures, and calls `on_score` after each."""
        missing = self.missing(bits, archs, split)
        if not missing:
            return
        scorer, self._split = self._scorer_of(bits), split
        for start in range(0, len(missing), _TOGETHER):
            together = missing[start : start + _TOGETHER]
            for index, score in scorer.score(together):
                self.keep(bits, together[index], cast(np.ndarray, score.outcomes), split)
                on_score(together[index])

    def score_plainly(
        self,
        bits: Bits,
        archs: Iterable[Arch],
        supernet: Supernet,
        on_score: Callable[[Arch], object] = lambda arch: None,
    ) -> None:
        """Scores a few missing subnets of a loaded supernet on held-out images, without tracing pieces of it."""
        run = self.run
        for arch in self.missing(bits, archs):
            images = run.evaluator.images("held_out", arch.resolution)
            logits = subnet_logits(supernet, run.space.encode(arch), run.evaluator.recalibrate(supernet, arch), images)
            self.keep(bits, arch, logits.argmax(axis=1) == np.asarray(images.labels))
            on_score(arch)

    def keep(self, bits: Bits, arch: Arch, outcomes: np.ndarray, split: str = "held_out") -> None:
        """Stores the outcomes of a subnet, bool (images,), in memory and in a file."""
        packed = np.packbits(outcomes)
        self._kept(bits, split)[arch] = packed, len(outcomes)
        record = {
            "arch": json.loads(arch.to_json()),
            "accuracy": float(np.mean(outcomes)),
            "images": len(outcomes),
            "outcomes": base64.b64encode(packed.tobytes()).decode("ascii"),
            "supernet": self.run.networks.identity(bits),
        }
        append_jsonl(self._file(bits, split), record)

    def _kept(self, bits: Bits, split: str) -> dict[Arch, tuple[np.ndarray, int]]:
        """`{Arch: (packed outcomes, number of outcomes)}`."""
        if (bits, split) not in self._known:
            path, space, ours = self._file(bits, split), self.run.space, self.run.networks.identity(bits)
            records = read_jsonl(path, _Outcomes, check=lambda record: _check(space, record))
            # Records of earlier versions do not say which supernet they are of.
            current = [r for r in records if r.get("supernet", ours) == ours]
            if left := len(records) - len(current):
                warn(f"{path}: {left} scores are of another supernet than the run has now, and left out")
            self._known[bits, split] = {
                r["arch"]: (np.frombuffer(base64.b64decode(r["outcomes"]), np.uint8), r["images"]) for r in current
            }
        return self._known[bits, split]

    def _file(self, bits: Bits, split: str) -> Path:
        return self.directory / "scores" / f"{label(bits)}_{split}.jsonl"

    def _scorer_of(self, bits: Bits) -> Scorer:
        """The `Scorer` of a supernet, which serves all splits since tracing its pieces takes long."""
        if self._scorer[0] != bits:
            run, limit = self.run, self.run.config.recalibration_images
            self._scorer = (
                bits,
                Scorer(
                    run.networks.supernet(bits),
                    lambda resolution: run.evaluator.images("train", resolution, limit),
                    lambda resolution: run.evaluator.images(self._split, resolution),
                ),
            )
        return self._scorer[1]
