"""Pairs of shallow-fat and deep-slim architectures, counted block by block."""

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.cost import count
from tfqnas.runs.analyses.shapes import draw, has_both, matched, pairs, shape
from tfqnas.spaces import SearchSpace, Stage


def by_hand(space, arch):
    """Depth and width of an architecture as `shape` defines them, from its fields alone."""
    stages = [space.stages[s] for s in space.searched]
    least, most = (sum(stage.depths[end] for stage in stages) for end in (0, -1))
    expands, widths = iter(arch.expands), []
    for stage, depth in zip(stages, arch.depths, strict=True):
        low, high = stage.expands[0], stage.expands[-1]
        widths += [(next(expands) - low) / (high - low) for _ in range(depth)]
    return (sum(arch.depths) - least) / (most - least), sum(widths) / len(widths)


@pytest.mark.parametrize("name", ["tiny", "mbv3"])
def test_pairs_have_like_macs_one_resolution_and_opposite_shapes(name):
    space = spaces.get(name)
    found = pairs(space, 12, seed=3, num_classes=10, in_channels=1)
    assert len(found) == 12 and len({arch for pair in found for arch in pair}) == 24
    for fat, slim in found:
        assert fat.resolution == slim.resolution
        macs = [count(space, arch, None, 10, 1).macs for arch in (fat, slim)]
        assert abs(macs[0] - macs[1]) <= 0.02 * max(macs)
        (fat_depth, fat_width), (slim_depth, slim_width) = by_hand(space, fat), by_hand(space, slim)
        assert fat_depth <= 1 / 3 + 1e-9 and slim_depth >= 2 / 3 - 1e-9 and sum(fat.depths) < sum(slim.depths)
        assert fat_width >= 2 / 3 - 1e-9 and slim_width <= 1 / 3 + 1e-9


def test_pairs_are_the_same_every_time_and_spread_over_cost():
    space = spaces.get("tiny")
    found = pairs(space, 8)
    pairs.cache_clear()
    assert pairs(space, 8) == found
    macs = [count(space, fat).macs for fat, _ in found]
    assert macs == sorted(macs) and macs[-1] > 1.2 * macs[0]


def test_shape_is_a_share_of_what_the_space_has(micro, rng):
    archs = [micro.smallest(), micro.largest(), *(micro.sample(rng) for _ in range(20))]
    found = shape(micro, np.array([micro.encode(arch) for arch in archs]))
    np.testing.assert_allclose(found[:2], [[0, 0], [1, 1]])
    np.testing.assert_allclose(found, [by_hand(micro, arch) for arch in archs])


def test_what_is_drawn_has_the_shape(micro, rng):
    for fat in (True, False):
        found = shape(micro, draw(micro, rng, 500, fat))
        deep, wide = found.T if fat else 1 - found.T
        assert len(found) and (deep <= 1 / 3 + 1e-9).all() and (wide >= 2 / 3 - 1e-9).all()


def test_matches_are_close_and_nothing_is_matched_twice(rng):
    first, second = (np.sort(rng.uniform(1, 2, n)) for n in (40, 60))
    found = matched(first, second, 0.01)
    assert len(found) > 20
    assert all(abs(first[i] - second[j]) <= 0.01 * max(first[i], second[j]) for i, j in found)
    assert all(len(set(places)) == len(found) for places in zip(*found, strict=True))
    assert matched([1.0, 2.0], [1.5, 3.0]) == []


def test_a_space_needs_a_choice_of_both():
    stage = Stage(8, 1, (1, 2), (3,), (3,))
    assert not has_both(SearchSpace("deep", (8,), 8, (stage,), 16))
    assert has_both(spaces.get("tiny"))
