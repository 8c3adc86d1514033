"""Samples, mutates and crosses many codes at once, as `SearchSpace` does for single architectures.

All functions return canonical codes, int32 (m, n), in which genes of blocks beyond the depth are 0 as in
`SearchSpace.encode`. Equal architectures are therefore equal rows, and the bytes of a row identify it in a set.
"""

import math

import numpy as np

from tfqnas.spaces import SearchSpace


def canonical(space: SearchSpace, codes: np.ndarray) -> np.ndarray:
    """int32 (m, n): `codes` with 0 in the genes of blocks beyond the depth."""
    return np.where(space.active(codes), codes, 0).astype(np.int32)


def sample(space: SearchSpace, rng: np.random.Generator, count: int) -> np.ndarray:
    """int32 (count, n): random codes with every choice uniform."""
    return canonical(space, _draws(space, rng, count))


def mutate(
    space: SearchSpace, codes: np.ndarray, rng: np.random.Generator, probability: float, genes: np.ndarray | bool = True
) -> np.ndarray:
    """int32 (m, n): codes with each gene redrawn with `probability`; blocks that become active are drawn too.

    Args:
        space: `SearchSpace`.
        codes: canonical int (m, n).
        rng: numpy Generator.
        probability: probability that a gene is redrawn.
        genes: bool (n,), the genes that may change; without depths among them no block becomes active.
    """
    drawn = _draws(space, rng, len(codes))
    anew = (rng.random(codes.shape) < probability) | ~space.active(codes)
    return canonical(space, np.where(anew & genes, drawn, codes))


def relatives(
    space: SearchSpace, code: np.ndarray, rng: np.random.Generator, count: int, probability: float, genes: np.ndarray
) -> np.ndarray:
    """int32 (count, n): variants of one code, in groups with the same first half.

    There are about as many groups as members in each. The first half of the genes is drawn once per group, the second
    half for each code. Each gene is redrawn with the same probability as in `mutate`, but scoring computes the common
    first half of the network only once per group (`tfqnas.scoring`).

    Args:
        space: `SearchSpace`.
        code: canonical int (n,).
        rng: numpy Generator.
        count: number of variants.
        probability: probability that a gene is redrawn.
        genes: bool (n,), the genes that may change, without depths.
    """
    groups = math.isqrt(count - 1) + 1 if count else 0
    places = np.flatnonzero(space.active(code[None])[0] & genes)
    ours = np.arange(len(code)) < (places[len(places) // 2] if len(places) else 0)
    beginnings = mutate(space, np.tile(code, (groups, 1)), rng, probability, genes)
    endings = mutate(space, np.tile(code, (count, 1)), rng, probability, genes)
    return np.where(ours, beginnings[np.arange(count) * groups // max(1, count)], endings)


def crossover(
    space: SearchSpace, first: np.ndarray, second: np.ndarray, rng: np.random.Generator, probability: float
) -> np.ndarray:
    """int32 (m, n): children with each gene from `second` with `probability`, otherwise from `first`.

    The genes of a block that only one parent has come from that parent. `probability` 0.5 is uniform crossover.
    """
    active = space.active(first)
    from_second = rng.random(first.shape) < probability
    from_second = np.where(active == space.active(second), from_second, ~active)
    return canonical(space, np.where(from_second, second, first))


def _draws(space: SearchSpace, rng: np.random.Generator, count: int) -> np.ndarray:
    # numpy's `integers` with a bound for each column is five times slower than scaled floats.
    return (rng.random((count, len(space.genes))) * space.choice_counts).astype(np.int32)
