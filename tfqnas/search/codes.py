"""Codes in bulk: random, mutated and crossed rows of choice indices, as `SearchSpace` does it one by one.

All functions return canonical codes, int32 (m, n): genes of blocks beyond the depth are 0, as `SearchSpace.encode`
has them. So equal architectures are equal rows, and a row's bytes can be its name in a set.
"""

import math

import numpy as np

from tfqnas.spaces import SearchSpace


def canonical(space: SearchSpace, codes: np.ndarray) -> np.ndarray:
    """int32 (m, n): `codes` with 0 at genes of blocks beyond the depth."""
    return np.where(space.active(codes), codes, 0).astype(np.int32)


def sample(space: SearchSpace, rng: np.random.Generator, count: int) -> np.ndarray:
    """int32 (count, n): random codes, every choice uniform."""
    return canonical(space, _draws(space, rng, count))


def mutate(
    space: SearchSpace, codes: np.ndarray, rng: np.random.Generator, probability: float, genes: np.ndarray | bool = True
) -> np.ndarray:
    """int32 (m, n): each gene drawn anew with `probability`; blocks that become active are drawn too.

    Args:
        codes: canonical int (m, n).
        genes: bool (n,), the genes that may change; without depths among them no block becomes active.
    """
    drawn = _draws(space, rng, len(codes))
    anew = (rng.random(codes.shape) < probability) | ~space.active(codes)
    return canonical(space, np.where(anew & genes, drawn, codes))


def relatives(
    space: SearchSpace, code: np.ndarray, rng: np.random.Generator, count: int, probability: float, genes: np.ndarray
) -> np.ndarray:
    """int32 (count, n): one code with `genes` drawn anew, each with `probability`, in groups with a common beginning.

    There are about as many groups as members of each: the first half of the genes is drawn once a group, the
    second for each code. Every gene is as likely to be drawn as in `mutate`, but the first half of a network, which is
    the same in a group, need be computed only once for all of it (`tfqnas.scoring`).

    Args:
        code: canonical int (n,). genes: bool (n,), those that may change, no depths among them.
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
    """int32 (m, n): each gene of `second` with `probability`, else of `first`; blocks that one lacks of the other.

    Uniform crossover, if `probability` is 0.5.
    """
    active = space.active(first)
    from_second = rng.random(first.shape) < probability
    from_second = np.where(active == space.active(second), from_second, ~active)
    return canonical(space, np.where(from_second, second, first))


def _draws(space: SearchSpace, rng: np.random.Generator, count: int) -> np.ndarray:
    # Scaled floats: numpy's integers with one bound for each column are five times slower.
    return (rng.random((count, len(space.genes))) * space.choice_counts).astype(np.int32)
