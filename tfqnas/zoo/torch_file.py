"""Reads arrays from a file of `torch.save` without torch, and without running arbitrary code of a pickle.

The format is that of torch before 1.6. It has five pickles (a magic number, the protocol's version, the sizes of the
types, the dictionary of tensors, the keys of their storages), and for each key the int64 number of elements and the
elements.
"""

import collections
import pathlib
import pickle
import types
from typing import Any, BinaryIO

import numpy as np

from tfqnas.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C
# The only names that such a pickle may use in torch, with their dtypes.
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The dictionary of tensors in a file, a model's "state dict".

    Args:
        path: path of the file.

    Returns:
        `{name: numpy array}` in the order of the file.

    Raises:
        UserError: the file has another format, is damaged, or uses names that tensors do not need.
    """
    try:
        with open(path, "rb") as file:
            magic, _, sizes = (_Unpickler(file).load() for _ in range(3))
            if magic != _MAGIC or not sizes["little_endian"]:
                raise ValueError("not written by torch.save before 1.6, in little-endian order")
            reader = _Unpickler(file)
            tensors = reader.load()
            for key in _Unpickler(file).load():
                _read_storage(file, reader.storages[key])
        return {name: _array(tensor) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, ValueError, KeyError, TypeError, EOFError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: expected a dictionary of tensors of torch ({error})") from None


class _Unpickler(pickle.Unpickler):
    """Accepts only tensors, their storages and ordered dictionaries."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, types.SimpleNamespace] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, identifier: Any) -> types.SimpleNamespace:
        kind, dtype, key, _, count, view = identifier
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a {kind}, or a view of one, is no storage")
        return self.storages.setdefault(key, types.SimpleNamespace(dtype=np.dtype(dtype), count=count, values=None))


def _tensor(
    storage: types.SimpleNamespace, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> types.SimpleNamespace:
    """Stands for a tensor until the storages are read, which come later in the file."""
    return types.SimpleNamespace(storage=storage, offset=offset, shape=shape, strides=strides)


def _read_storage(file: BinaryIO, storage: types.SimpleNamespace) -> None:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if count != storage.count:
        raise ValueError(f"a storage of {storage.count} elements has {count}")
    data = file.read(count * storage.dtype.itemsize)
    storage.values = np.frombuffer(data, storage.dtype)
    if len(storage.values) != count:
        raise ValueError("the file is truncated")


def _array(tensor: types.SimpleNamespace) -> np.ndarray:
    """The array of a tensor, whose elements lie `strides` apart; raises ValueError if they exceed its storage."""
    shape, strides, values = tuple(tensor.shape), tuple(tensor.strides), tensor.storage.values
    if len(shape) != len(strides) or min((*shape, *strides, tensor.offset), default=0) < 0:
        raise ValueError(f"shape {shape}, strides {strides}, offset {tensor.offset}")
    if 0 in shape:
        return np.zeros(shape, values.dtype)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if last >= len(values):
        raise ValueError(f"shape {shape} is larger than its storage")
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], shape, steps).copy()
