"""Handing weights down. The bound on what inheritance does to a value: tests/quantizers/lsq_test.py."""

import numpy as np
import pytest

from tfqnas.errors import UserError
from tfqnas.quantizers import LSQ
from tfqnas.train.inherit import copy_weights, inherit


@pytest.fixture(scope="module")
def parent(micro, make_supernet):
    return make_supernet(micro, 8, weights=LSQ(bits=8, narrow_range=True), kernel_transform=True, dropout=0.2)


def values(supernet):
    return {v.path: v.numpy() for v in supernet.variables}


@pytest.mark.parametrize("bits", [7, 4, 2])
def test_a_child_has_the_weights_and_a_step_doubled_for_every_bit_less(bits, parent):
    before = values(parent)
    child = inherit(parent, bits)
    assert child.bits == bits and child.space is parent.space
    assert child.settings["inputs"].bits == bits and not child.settings["inputs"].signed
    assert child.settings["weights"].narrow_range
    assert child.settings["kernel_transform"] and child.settings["dropout"] == 0.2
    inherited = values(child)
    assert inherited.keys() == before.keys()
    for path, value in inherited.items():
        factor = 2.0 ** (8 - bits) if path.endswith("/step") else 1.0
        np.testing.assert_array_equal(value, before[path] * np.float32(factor), err_msg=path)
    assert len({id(v) for v in (*child.variables, *parent.variables)}) == 2 * len(before)
    for path, value in values(parent).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)  # the teacher stays whole


def test_every_weight_of_a_child_moves_by_at_most_one_step_of_its_parent(parent):
    child = inherit(parent, 7)
    for old, new in zip(parent.blocks, child.blocks, strict=True):
        kernel = old.project.kernel.numpy()
        before, after = (np.float64(b.project.weight_quantizer(kernel)) for b in (old, new))
        assert np.abs(before - after).max() <= old.project.weight_quantizer.step.numpy() * (1 + 1e-5)


@pytest.mark.parametrize("bits", [8, 9, 1])
def test_only_fewer_bits_are_inherited(bits, parent):
    with pytest.raises(UserError, match=f"inherit: expected fewer than the supernet's 8 bits, received {bits}"):
        inherit(parent, bits)


def test_a_float_supernet_has_no_bits_to_inherit(micro, make_supernet):
    with pytest.raises(UserError, match="the supernet's None bits"):
        inherit(make_supernet(micro, None), 4)


def test_weights_are_copied_from_floating_point_and_steps_left_to_initialize(micro, make_supernet):
    source = make_supernet(micro, None, seed=1)
    target = make_supernet(micro, 4, seed=2, initialized=False)
    copy_weights(source, target)
    copied, original = values(target), values(source)
    steps = {path for path in copied if path.endswith("/step")}
    assert copied.keys() - steps == original.keys() and steps
    for path, value in original.items():
        np.testing.assert_array_equal(copied[path], value, err_msg=path)
    assert all(np.isnan(copied[path]) for path in steps)


def test_a_misfit_is_refused_with_the_name_of_the_weight(micro, make_supernet):
    source = make_supernet(micro, None)
    with pytest.raises(UserError, match=r"classifier/kernel: expected shape \(24, 5\), received shape \(24, 10\)"):
        copy_weights(source, make_supernet(micro, None, num_classes=5))
    with pytest.raises(UserError, match=r"depthwise/transform_3: expected shape \(9, 9\), received no such weight"):
        copy_weights(source, make_supernet(micro, None, kernel_transform=True))
