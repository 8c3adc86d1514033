import dataclasses

import numpy as np
import pytest

from tfqnas import spaces
from tfqnas.train.sampling import random_subnet, sampler
from tfqnas.train.stages import MIXED, TrainingStage

MIXED_SPACE = spaces.get("tiny_qfa")


def drawn(one_precision, space=MIXED_SPACE, count=300):
    rng = np.random.default_rng(0)
    return [random_subnet(space, rng, one_precision) for _ in range(count)]


@pytest.mark.parametrize("name", ["tiny", "mbv3", "tiny_qfa"])
def test_random_subnets_are_those_of_the_space(name):
    space = spaces.get(name)
    rng = np.random.default_rng(0)
    assert drawn(0.0, space, 20) == [space.sample(rng) for _ in range(20)]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_one_precision_holds_for_its_share_of_the_subnets(share):
    found, by_chance = (
        np.mean([len({b for pair in arch.bits for b in pair}) == 1 for arch in drawn(probability)])
        for probability in (share, 0.0)
    )
    expected = share + (1 - share) * by_chance
    assert found == pytest.approx(expected, abs=3 * 0.5 / 300**0.5)


def test_one_precision_takes_each_of_the_bit_widths():
    archs = drawn(1.0)
    assert {arch.bits[0][0] for arch in archs} == {2, 3, 4}


def test_one_precision_is_one_that_weights_and_inputs_have():
    space = dataclasses.replace(MIXED_SPACE, weight_bits=(2, 4), input_bits=(4, 8))
    archs = drawn(1.0, space, 50)
    assert {b for arch in archs for pair in arch.bits for b in pair} == {4}


def test_where_there_are_no_bit_widths_one_precision_changes_nothing():
    for arch in drawn(1.0, spaces.get("tiny"), 20):
        assert arch.bits is None


def _stage(with_float):
    return TrainingStage("s", MIXED, 1.0, 0.1, "sandwich", with_float=with_float)


def test_the_first_phase_draws_floating_point_as_well_and_the_second_does_not():
    rng = np.random.default_rng(0)
    both, alone = ([a for _ in range(20) for a in sampler(MIXED_SPACE, _stage(f), 4)(rng)] for f in (True, False))
    widths = [{b for arch in archs for pair in arch.bits for b in pair} for archs in (both, alone)]
    assert widths == [{2, 3, 4, 32}, {2, 3, 4}]
    assert {b for pair in both[0].bits for b in pair} == {32} and {b for pair in both[1].bits for b in pair} == {2}
