"""Files in the format of torch before 1.6, written here without torch."""

import collections
import io
import os
import pickle
import types

import numpy as np
import pytest

from tfqnas.errors import UserError
from tfqnas.zoo.torch_file import read_tensors

MAGIC = 0x1950A86A20F9469CFC6C


class Global:
    """Pickled as the name of a function or class of torch."""

    def __init__(self, name):
        self.name = name


class Writer(pickle._Pickler):
    """Writes names of torch as such, and storages as references."""

    def persistent_id(self, value):
        if not isinstance(value, types.SimpleNamespace):
            return None
        return ("storage", Global(value.kind), value.key, "cpu", value.count, None)

    def save_name(self, value):
        self.write(pickle.GLOBAL + value.name.replace(" ", "\n").encode() + b"\n")

    dispatch = pickle._Pickler.dispatch | {Global: save_name}


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild, self.arguments


def _rebuild(*arguments):
    raise AssertionError("never called here")


def save(path, tensors, storages, magic=MAGIC, extra=b""):
    """`storages`: `{key: (kind, array)}`; `tensors`: `{name: (key, offset, shape, strides)}`."""
    kept = {
        key: types.SimpleNamespace(kind=f"torch {kind}", key=key, count=len(values))
        for key, (kind, values) in storages.items()
        if key in {tensor[0] for tensor in tensors.values()}
    }
    file = io.BytesIO()
    for value in (magic, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
        pickle.dump(value, file, protocol=2)
    writer = Writer(file, protocol=2)
    rebuild = Global("torch._utils _rebuild_tensor_v2")
    writer.dispatch = {**Writer.dispatch, Tensor: lambda self, t: self.save_reduce(Called(rebuild), t.arguments)}
    writer.dispatch[Called] = lambda self, called: self.save(called.function)
    writer.dump(collections.OrderedDict((name, Tensor(kept[t[0]], *t[1:])) for name, t in tensors.items()))
    pickle.dump(sorted(kept), file, protocol=2)
    for key in sorted(kept):
        values = storages[key][1]
        file.write(len(values).to_bytes(8, "little") + values.tobytes())
    path.write_bytes(file.getvalue() + extra)
    return path


class Called:
    """Makes `save_reduce` take a name for a function."""

    def __init__(self, function):
        self.function = function

    def __call__(self):
        raise AssertionError("never called here")


@pytest.fixture
def storages(rng):
    return {"1": ("FloatStorage", rng.normal(size=24).astype("<f4")), "2": ("LongStorage", np.array([7], "<i8"))}


def test_tensors_are_read_with_their_strides_and_offsets(tmp_path, storages):
    tensors = {
        "plain": ("1", 0, (2, 3, 4), (12, 4, 1)),
        "turned": ("1", 0, (4, 6), (1, 4)),
        "part": ("1", 5, (3,), (2,)),
        "count": ("2", 0, (), ()),
    }
    found = read_tensors(save(tmp_path / "m.pth", tensors, storages))
    values = storages["1"][1]
    assert list(found) == list(tensors)
    np.testing.assert_array_equal(found["plain"], values.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["turned"], values.reshape(6, 4).T)
    np.testing.assert_array_equal(found["part"], values[[5, 7, 9]])
    assert found["count"] == 7 and found["count"].dtype == np.int64


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("1", 0, (25,), (1,)), "larger than its storage"),
        (("1", 20, (2, 3), (3, 1)), "larger than its storage"),
        (("1", 0, (2, 3), (-3, 1)), "strides"),
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, storages, tensor, message):
    with pytest.raises(UserError, match=message):
        read_tensors(save(tmp_path / "m.pth", {"x": tensor}, storages))


def test_a_file_that_wants_something_run_is_refused(tmp_path):
    path, proof = tmp_path / "m.pth", tmp_path / "ran"

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(proof),)

    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(UserError, match="mkdir is no part of a tensor"):
        read_tensors(path)
    assert not proof.exists()


def test_damaged_and_other_files_are_refused(tmp_path, storages):
    tensors = {"x": ("1", 0, (24,), (1,))}
    whole = save(tmp_path / "m.pth", tensors, storages)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:-12])
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04 torch 1.6 and later")
    other = save(tmp_path / "other.pth", tensors, storages, magic=1)
    for path in (tmp_path / "cut.pth", tmp_path / "zip.pth", other):
        with pytest.raises(UserError, match=f"{path.name}: expected a dictionary of tensors"):
            read_tensors(path)
