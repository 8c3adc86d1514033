"""Finds shallow-fat and deep-slim architectures of similar cost (OQA, section 4.5)."""

import functools
from collections.abc import Iterable

import numpy as np

from tfqnas.arch import Arch
from tfqnas.cost import count_codes
from tfqnas.search.codes import canonical
from tfqnas.spaces import SearchSpace

# The MACs of a pair differ at most by this fraction.
LIKE = 0.02
# Shallow or slim architectures have a depth or width of at most this, deep or fat ones of at least 1 minus this.
THIRD = 1 / 3
# Number of random architectures of each kind per wanted pair.
_DRAWS = 200


def shape(space: SearchSpace, codes: np.ndarray) -> np.ndarray:
    """Depth and width of architectures with codes int (m, n).

    Returns:
        float64 (m, 2): number of blocks and mean expand ratio, each from 0 (the smallest in the space) to 1.
    """
    kinds = np.array([gene.kind for gene in space.genes])
    low, high = (np.array([gene.choices[end] for gene in space.genes], np.float64) for end in (0, -1))
    choices = [np.asarray(gene.choices, np.float64)[codes[:, i]] for i, gene in enumerate(space.genes)]
    above = np.column_stack(choices) - low
    depth, expand = kinds == "depth", (kinds == "expand") & (high > low)
    counted = space.active(codes)[:, expand]
    wide = (above[:, expand] / (high - low)[expand] * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return np.column_stack((above[:, depth].sum(axis=1) / max((high - low)[depth].sum(), 1), wide))


def has_both(space: SearchSpace) -> bool:
    """Whether a space has choices of both depth and width."""
    elastic = {gene.kind for gene in space.genes if len(gene.choices) > 1}
    return {"depth", "expand"} <= elastic


def draw(space: SearchSpace, rng: np.random.Generator, count: int, fat: bool) -> np.ndarray:
    """Different random codes of shallow and fat, or deep and slim architectures, int32 (k, n) with k up to `count`.

    Kernel sizes and resolutions are uniform; depths and expand ratios favour the wanted side.
    """
    kinds = np.array([gene.kind for gene in space.genes])
    uniform = rng.random((count, len(kinds)))
    lower = uniform**2
    leaning = {"depth": lower if fat else 1 - lower, "expand": 1 - lower if fat else lower}
    for kind, values in leaning.items():
        uniform = np.where(kinds == kind, values, uniform)
    places = np.minimum((uniform * space.choice_counts).astype(np.int64), space.choice_counts - 1)
    codes = np.unique(canonical(space, places), axis=0)
    deep, wide = shape(space, codes).T
    few, many = (deep, wide) if fat else (wide, deep)
    return codes[(few <= THIRD + 1e-9) & (many >= 1 - THIRD - 1e-9)]


@functools.lru_cache(maxsize=4)
def pairs(
    space: SearchSpace, wanted: int, seed: int = 0, num_classes: int = 1000, in_channels: int = 3
) -> tuple[tuple[Arch, Arch], ...]:
    """Pairs of a shallow-fat and a deep-slim architecture of the same resolution, whose MACs differ by at most 2%.

    Args:
        space: `SearchSpace`.
        wanted: number of pairs.
        seed: seed of the random architectures.
        num_classes, in_channels: classes and image channels for which MACs are counted.

    Returns:
        Up to `wanted` pairs of `Arch` in ascending cost, evenly spread over all that were found.
    """
    rng = np.random.default_rng(seed)
    kinds = [draw(space, rng, _DRAWS * wanted, fat) for fat in (True, False)]
    macs = [count_codes(space, codes, None, num_classes, in_channels).macs for codes in kinds]
    found = []
    for resolution in range(len(space.resolutions)):
        members = [np.flatnonzero(codes[:, 0] == resolution) for codes in kinds]
        fat, slim = (some[np.argsort(own[some], kind="stable")] for some, own in zip(members, macs, strict=True))
        found += [(macs[0][fat[i]], fat[i], slim[j]) for i, j in matched(macs[0][fat], macs[1][slim])]
    found.sort()
    places: Iterable[int]
    places = np.unique(np.linspace(0, len(found) - 1, min(wanted, len(found))).round().astype(int)) if found else []
    return tuple((space.decode(kinds[0][found[p][1]]), space.decode(kinds[1][found[p][2]])) for p in places)


def matched(first: np.ndarray, second: np.ndarray, like: float = LIKE) -> list[tuple[int, int]]:
    """Disjoint index pairs of two ascending arrays whose values differ by at most a fraction of the larger."""
    i = j = 0
    found = []
    while i < len(first) and j < len(second):
        a, b = first[i], second[j]
        if abs(a - b) <= like * max(a, b):
            found.append((i, j))
            i, j = i + 1, j + 1
        elif a < b:
            i += 1
        else:
            j += 1
    return found
