import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.search import codes as bulk

TINY, QFA, MBV3 = spaces.get("tiny"), spaces.get("tiny_qfa"), spaces.get("mbv3")
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


def test_relatives_come_in_groups_with_a_common_beginning(rng):
    code, kernels = MBV3.encode(MBV3.sample(rng)), np.array([gene.kind == "kernel" for gene in MBV3.genes])
    codes = bulk.relatives(MBV3, code, rng, 90, 0.25, kernels)
    assert codes.shape == (90, len(code)) and (codes[:, ~kernels] == code[~kernels]).all()
    places = np.flatnonzero(MBV3.active(code[None])[0] & kernels)
    first, last = codes[:, places[: len(places) // 2]], codes[:, places[len(places) // 2 :]]
    assert len(np.unique(first, axis=0)) <= 10 < len(np.unique(last, axis=0))
    assert (first[:9] == first[0]).all()
    many = bulk.relatives(MBV3, code, rng, 4000, 0.25, kernels)[:, places]
    changed = (many != code[places]).mean(axis=0)
    # Drawn anew with 1/4, of 3 choices: 64 groups of the first half, 0.15 is more than three standard errors of them.
    assert changed == pytest.approx(np.full(len(places), 0.25 * 2 / 3), abs=0.15)
    assert changed[len(places) // 2 :] == pytest.approx(0.25 * 2 / 3, abs=0.03)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_few_relatives(count, rng):
    kernels = np.array([gene.kind == "kernel" for gene in TINY.genes])
    assert len(bulk.relatives(TINY, TINY.encode(TINY.largest()), rng, count, 1.0, kernels)) == count
