"""All operations, by the names of their files."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops import __path__ as _path
from tflite_export.ops.base import Operation

_KINDS = sorted({module.name for module in pkgutil.iter_modules(_path)} - {"base", "common", "registry"})
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {kind: importlib.import_module(f"tflite_export.ops.{kind}").OPERATION for kind in _KINDS}
)


def ratios(graph: IntGraph, op: IntOp) -> np.ndarray:
    """float32 (1,) or (channels,): the value of one accumulator unit of `op`, in steps of its output."""
    found = OPERATIONS[op.kind].ratios
    assert found is not None, op.kind
    return found(graph, op)


def rounds_ties(graph: IntGraph, op: IntOp) -> bool:
    """Whether the rounding of halves by `op` depends on the CPU."""
    found = OPERATIONS[op.kind].rounds_ties
    return found if isinstance(found, bool) else found(graph, op)
