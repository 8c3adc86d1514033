import types

import numpy as np
import pytest

from tfqnas.errors import UserError
from tfqnas.train import checkpoint
from tfqnas.train.checkpoint import Checkpoints


def values(seed):
    rng = np.random.default_rng(seed)
    return {
        "stem/kernel": rng.normal(size=(3, 3, 1, 4)).astype(np.float32),
        "block/depthwise/weight_quantizer/step": np.float32(rng.uniform(0.1, 1)),
        "optimizer/iteration": np.int64(seed),
    }


def assert_checkpoint(loaded, seed):
    arrays, meta = loaded
    assert meta == {"stage": {"name": "some"}, "step": seed}
    assert arrays.keys() == values(seed).keys()
    for name, expected in values(seed).items():
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == expected.dtype and arrays[name].shape == expected.shape


@pytest.fixture
def two(tmp_path):
    """Checkpoints of the steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path / "run" / "stage")
    for step in (1, 2):
        checkpoints.save(step, values(step), {"stage": {"name": "some"}})
    return checkpoints


def test_what_was_saved_is_loaded_the_newest_first(two):
    assert_checkpoint(two.load(), 2)
    assert_checkpoint(checkpoint.read(two.directory / "step-00000001.npz"), 1)


def test_where_nothing_was_saved_nothing_is_loaded(tmp_path):
    assert Checkpoints(tmp_path / "nothing").load() is None
    with pytest.raises(UserError, match="some.npz: no such checkpoint"):
        checkpoint.read(tmp_path / "some.npz")


def test_two_are_kept_and_nothing_temporary(two):
    for step in (3, 10, 200):
        two.save(step, values(step), {"stage": {"name": "some"}})
    assert sorted(p.name for p in two.directory.iterdir()) == ["step-00000010.npz", "step-00000200.npz"]
    assert_checkpoint(two.load(), 200)


def test_saving_a_step_again_replaces_it(two):
    two.save(2, values(2), {"stage": {"name": "other"}})
    assert two.load()[1]["stage"] == {"name": "other"} and len(two.files()) == 2


def test_a_file_truncated_anywhere_falls_back_to_the_one_before(two):
    newest = two.files()[0]
    whole = newest.read_bytes()
    for length in [0, 1, 3, 4, 30, *range(50, len(whole), 37), len(whole) - 1]:
        newest.write_bytes(whole[:length])
        said = []
        assert_checkpoint(two.load(said.append), 1)
        assert len(said) == 1 and str(newest) in said[0] and "truncated or damaged" in said[0]


def test_a_flipped_bit_anywhere_is_found_or_does_no_harm(two):
    newest = two.files()[0]
    whole = newest.read_bytes()
    directory = whole.rindex(b"PK\x01\x02")  # of the zip file: all bits of an entry, elsewhere one of each second byte
    flips = [(i, b) for i in range(directory, len(whole)) for b in range(8)]
    flips += [(i, i * 5 % 8) for i in range(0, directory, 2)]
    found = 0
    for position, bit in flips:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        newest.write_bytes(damaged)
        said = []
        loaded = two.load(said.append)
        assert_checkpoint(loaded, 1 if said else 2)
        found += bool(said)
    assert found > 0.5 * len(flips)


def test_where_every_file_is_damaged_nothing_is_loaded(two):
    for path in two.files():
        path.write_bytes(b"")
    said = []
    assert two.load(said.append) is None and len(said) == 2


def variable(path, shape):
    made = types.SimpleNamespace(path=path, shape=shape, value=None)
    made.assign = lambda value: setattr(made, "value", value)
    return made


def test_arrays_are_assigned_by_path():
    variables = [variable("a/kernel", (2, 3)), variable("b/step", ())]
    arrays = {"b/step": np.float32(1), "a/kernel": np.ones((2, 3)), "more": np.zeros(1)}
    checkpoint.assign(variables, {name: np.asarray(v) for name, v in arrays.items()}, "it")
    assert variables[0].value.shape == (2, 3) and variables[1].value == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"it does not fit this network: a/kernel has shape \(2, 3\), the file holds none"),
        ({"a/kernel": np.ones((3, 2))}, r"a/kernel has shape \(2, 3\), the file holds shape \(3, 2\)"),
    ],
)
def test_a_misfit_is_refused_with_the_name_of_the_variable(arrays, message):
    with pytest.raises(UserError, match=message):
        checkpoint.assign([variable("a/kernel", (2, 3))], arrays, "it")
