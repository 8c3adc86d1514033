"""Compares how supernets of different bit widths rank the same subnets."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tfqnas import report
from tfqnas.arch import Arch, ArchData
from tfqnas.cost import count
from tfqnas.errors import UserError
from tfqnas.records import NotNegative, Positive, Share
from tfqnas.report import comparisons
from tfqnas.report.style import bits_label
from tfqnas.runs.analyses.agreement import AgreementData, Tau, agreement, of_halves
from tfqnas.runs.analyses.analysis_config import AnalysisConfig
from tfqnas.runs.analyses.supernets import Supernets
from tfqnas.runs.run import Run
from tfqnas.search import RandomBins
from tfqnas.spaces import SearchSpace
from tfqnas.train.stages import Bits

NAME = "ranking"


class _Supernet(TypedDict):
    bits: Bits
    accuracies: list[Share]
    halves: Tau
    halves_alike: Tau


class _Compared(TypedDict):
    first: Bits
    second: Bits
    all: AgreementData
    alike: AgreementData


class Kind(TypedDict):
    archs: list[ArchData]
    mmacs: list[NotNegative]
    note: str
    images: Positive
    supernets: list[_Supernet]
    pairs: list[_Compared]


KIND = Kind
# Number of bins of cost over which the subnets are spread; fewer for few subnets.
_BINS = 6
# Subnets are of similar cost if their MACs differ by at most this factor.
_ALIKE = 1.1


def obstacle(supernets: Supernets, config: AnalysisConfig) -> str | None:
    return None if len(supernets.bits) > 1 else "there is only one bit width and no float supernet, so only one ranking"


def wants(supernets: Supernets, config: AnalysisConfig, bits: Bits) -> list[tuple[str, list[Arch]]]:
    return [("held_out", common_set(supernets.run, config))]


def common_set(run: Run, config: AnalysisConfig) -> list[Arch]:
    """`config.subnets` different random architectures, equally many in each bin of MACs. Bins alternate in the list."""
    data = run.dataset
    return list(_spread(run.space, data.num_classes, data.channels, config.subnets))


@functools.lru_cache(maxsize=4)
def _spread(space: SearchSpace, num_classes: int, channels: int, subnets: int) -> tuple[Arch, ...]:
    bins = min(_BINS, subnets // 2)
    searcher = RandomBins(
        space, lambda arch: count(space, arch, None, num_classes, channels).macs, bins, -(-subnets // bins), seed=0
    )
    try:
        return tuple(searcher.ask(subnets))
    except ValueError as error:
        raise UserError(f"`subnets={subnets}`: {error}") from None


def result(supernets: Supernets, config: AnalysisConfig) -> dict[str, Any]:
    """Scores of the common set in all supernets, and the rank agreement of each pair, as JSON data."""
    archs = common_set(supernets.run, config)
    mmacs = [supernets.run.costs.of(arch, None)["mmacs"] for arch in archs]
    outcomes = {bits: np.array([supernets.outcomes(bits, arch) for arch in archs]) for bits in supernets.bits}
    scores, like = {b: own.mean(axis=1) for b, own in outcomes.items()}, alike(mmacs)
    return {
        "archs": [json.loads(arch.to_json()) for arch in archs],
        "mmacs": mmacs,
        "note": supernets.source_note,
        "images": outcomes[supernets.source].shape[1],
        "supernets": [
            {
                "bits": bits,
                "accuracies": scores[bits].tolist(),
                "halves": of_halves(own),
                "halves_alike": of_halves(own, like),
            }
            for bits, own in outcomes.items()
        ],
        "pairs": [
            {
                "first": first,
                "second": second,
                "all": dataclasses.asdict(agreement(scores[first], scores[second])),
                "alike": dataclasses.asdict(agreement(scores[first], scores[second], like)),
            }
            for first, second in supernets.pairs()
        ],
    }


def alike(mmacs: Sequence[float]) -> np.ndarray:
    """bool (n, n): the pairs of subnets whose MACs differ by at most a tenth."""
    logs = np.log(mmacs)
    return np.abs(np.subtract.outer(logs, logs)) <= np.log(_ALIKE) + 1e-12


def draw(result: Mapping[str, Any], path: Path) -> None:
    scores = {record["bits"]: record["accuracies"] for record in result["supernets"]}
    halves = {record["bits"]: record["halves"] for record in result["supernets"]}
    taus = {(pair["first"], pair["second"]): pair["all"] for pair in result["pairs"]}
    comparisons.ranking_figure(scores, taus, halves, result["mmacs"], path, "The same subnets at every bit width")


def section(result: Mapping[str, Any], picture: Path) -> report.Section:
    rows = []
    for pair in result["pairs"]:
        names = {key: bits_label(pair[key]) for key in ("first", "second")}
        found = {f"{kind}_{key}": pair[kind][key] for kind in ("all", "alike") for key in ("tau", "low", "high")}
        rows.append({**names, **found})
    for record in result["supernets"]:
        name = bits_label(record["bits"])
        rows.append(
            {
                "first": name,
                "second": f"{name}, other images",
                "all_tau": record["halves"],
                "alike_tau": record["halves_alike"],
            }
        )
    count, pairs, images = len(result["archs"]), result["pairs"][0]["alike"]["pairs"], result["images"]
    text = _TEXT.format(count=count, images=f"{images:,}", half=f"{images // 2:,}", pairs=pairs)
    items = [report.Picture(picture), report.Table(rows, _COLUMNS), text, *filter(None, [result["note"]])]
    return report.Section("Do the bit widths rank alike?", items)


_COLUMNS = (
    ("first", "ranking of"),
    ("second", "and of"),
    ("all_tau", "Kendall's tau", ".2f"),
    ("all_low", "from", ".2f"),
    ("all_high", "to", ".2f"),
    ("alike_tau", "at like cost", ".2f"),
    ("alike_low", "from", ".2f"),
    ("alike_high", "to", ".2f"),
)
_TEXT = (
    "{count} random subnets, equally many in every range of cost, were scored on {images} held-out images at every bit "
    "width. Kendall's tau is 1 for the same order and 0 for no relation. At like cost only the {pairs} pairs count "
    "whose MACs differ by at most a tenth; over all pairs every supernet agrees at least that more computation is "
    "better. From and to enclose 95% of resamples of the subnets. The rows with other images compare a supernet with "
    "itself on two random halves of {half} images, which is what chance leaves of a perfect agreement. With all images "
    "it leaves more."
)
