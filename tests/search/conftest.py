"""A space small enough to look at all of it, and costs that are random."""

import itertools

import numpy as np
import pytest

from tfqnas.search.codes import canonical


@pytest.fixture(scope="session")
def every_code(micro):
    """int32 (800, n): the codes of all architectures of `micro`."""
    raw = np.array(list(itertools.product(*map(range, micro.choice_counts))))
    codes = np.unique(canonical(micro, raw), axis=0)
    assert len(codes) == micro.size
    return codes


@pytest.fixture(scope="session")
def random_cost():
    """`random_cost(space, seed)`: a cost as a latency table gives it, a sum over blocks that follows no order."""

    def make(space, seed):
        rng = np.random.default_rng(seed)
        base = rng.uniform(0.5, 2, len(space.resolutions))
        blocks = [(i, gene) for i, gene in enumerate(space.genes) if gene.kind == "kernel"]
        sizes = [(len(base), len(gene.choices), space.choice_counts[i + 1]) for i, gene in blocks]
        tables = [rng.uniform(0.1, 1, size) for size in sizes]

        def cost(codes):
            total, active = base[codes[:, 0]], space.active(codes)
            for (i, _), table in zip(blocks, tables, strict=True):
                total = total + active[:, i] * table[codes[:, 0], codes[:, i], codes[:, i + 1]]
            return total

        return cost

    return make
