import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import codes as bulk

TINY, QFA = spaces.get("tiny"), spaces.get("tiny_qfa")
SPACES = (TINY, QFA, QFA.restricted(bits_by="block"))


@pytest.fixture(params=SPACES, ids=lambda space: f"{space.name}-{space.bits_by}")
def space(request):
    return request.param


def encoded(space, codes):
    return np.array([space.encode(space.decode(code)) for code in codes])


def test_canonical_codes_are_those_of_encode(space, rng):
    raw = rng.integers(0, space.choice_counts, (200, len(space.genes)))
    codes = bulk.canonical(space, raw)
    assert codes.dtype == np.int32 and (codes == encoded(space, raw)).all()


def test_samples_have_every_choice_equally_often(space, rng):
    codes = bulk.sample(space, rng, 20_000)
    assert (codes[:50] == encoded(space, codes[:50])).all()
    active = space.active(codes)
    for i, count in enumerate(space.choice_counts):
        shares = np.bincount(codes[active[:, i], i], minlength=count) / active[:, i].sum()
        assert shares == pytest.approx(np.full(count, 1 / count), abs=0.02)  # five standard errors or more


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_mutation_draws_each_gene_anew_with_its_probability(space, rng, probability):
    codes = np.tile(space.encode(space.largest()), (20_000, 1))
    mutants = bulk.mutate(space, codes, rng, probability)
    assert (mutants[:50] == encoded(space, mutants[:50])).all()
    active = space.active(mutants)
    for i, count in enumerate(space.choice_counts):
        changed = (mutants[:, i] != codes[:, i])[active[:, i]].mean()
        assert changed == pytest.approx(probability * (1 - 1 / count), abs=0.02)


def test_blocks_that_become_active_are_drawn(rng):
    depth, expand = TINY.gene_index("depth", 1), TINY.gene_index("expand", 1, 1)
    codes = np.tile(TINY.encode(TINY.smallest()), (20_000, 1))
    deeper = bulk.mutate(TINY, codes, rng, 0.2)
    drawn = deeper[deeper[:, depth] == 1, expand]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 3] * 3, abs=0.05)


def test_only_the_genes_that_may_change_do(rng):
    kernels = np.array([gene.kind == "kernel" for gene in TINY.genes])
    codes = bulk.sample(TINY, rng, 500)
    mutants = bulk.mutate(TINY, codes, rng, 0.5, kernels)
    assert (mutants[:, ~kernels] == codes[:, ~kernels]).all() and (mutants != codes).any(axis=0)[kernels].all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_crossover_takes_each_gene_of_the_second_parent_with_its_probability(space, rng, probability):
    parents = [space.encode(arch) for arch in (space.smallest(), space.largest())]
    first, second = np.tile(parents, (20_000, 1, 1)).swapaxes(0, 1)
    children = bulk.crossover(space, first, second, rng, probability)
    assert (children[:50] == encoded(space, children[:50])).all()
    common = space.active(first)
    shares = (children == second).mean(axis=0)[common[0]]
    assert shares == pytest.approx(np.full(len(shares), probability), abs=0.02)
    # Blocks that the first parent lacks are the second's wherever the child has them.
    only_second = ~common & space.active(children)
    assert (children[only_second] == second[only_second]).all()
