"""`Operation`, all that the exporter knows of one kind of integer operation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tflite_export.int_graph import IntGraph, IntOp
from tflite_export.ops.common import MARGIN, Function, Values, table_steps, tabulated


def _nothing(graph: IntGraph, op: IntOp) -> dict[str, Any]:
    return {}


def _none(graph: IntGraph, op: IntOp) -> list[np.ndarray]:
    return []


def _exact(graph: IntGraph, op: IntOp) -> str:
    return ""


@dataclasses.dataclass(frozen=True)
class Operation:
    """One kind of operation. A file of this package defines one, as `OPERATION`, and has the name of the kind.

    Args:
        compute: function of the graph, an `IntOp` and `{name: integers}` that returns the integers of its output.
        builtin: its name in LiteRT's schema.
        options: the name of its table of options there, or None.
        version: the version of LiteRT's kernel for int8, or a function of the `IntOp` that returns it.
        fields: function of the graph and the `IntOp` that returns the fields of that table. The fused activation,
            strides and padding need no mention.
        arguments: function of the same that returns int32 arrays, which the file passes as more inputs.
        arguments_first: whether these come before the other inputs.
        order: the order of the inputs in the file, if it is another one.
        ratios: function of the same that returns float32 (1,) or (channels,): the value of one unit of the accumulator
            in steps of the output, in XNNPACK's order of float32 roundings. None for kinds that round by no ratio.
        bounds: the least ratio that kernels take, and the one that is too large.
        rounds_ties: whether its rounding of halves depends on the CPU, so that no accumulator may land on one; or a
            function of the graph and the `IntOp` that says so.
        steps: function of the graph, the `IntOp` and all accumulators that returns the float32 that are rounded, for
            kinds other than `accumulator * ratio`.
        margin: how near to a half these must not lie.
        one_grid: whether its inputs and its output have the same scale and zero point.
        problem: function of the graph and the `IntOp` that says why no kernel computes it exactly; "" if one does.
        movable: the place of the input whose scale may move to avoid ties; -1 for the output.
    """

    compute: Callable[[IntGraph, IntOp, Values], np.ndarray]
    builtin: str
    options: str | None
    version: int | Callable[[IntOp], int] = 2
    fields: Callable[[IntGraph, IntOp], Mapping[str, Any]] = _nothing
    arguments: Callable[[IntGraph, IntOp], list[np.ndarray]] = _none
    arguments_first: bool = False
    order: tuple[int, ...] | None = None
    ratios: Callable[[IntGraph, IntOp], np.ndarray] | None = None
    bounds: tuple[float, float] = (2.0**-31, 256.0)
    rounds_ties: bool | Callable[[IntGraph, IntOp], bool] = False
    steps: Callable[[IntGraph, IntOp], np.ndarray] | None = None
    margin: float = 0.0
    one_grid: bool = False
    problem: Callable[[IntGraph, IntOp], str] = _exact
    movable: int = 1


def of_table(
    function: Function,
    builtin: str,
    options: str | None = None,
    version: int = 2,
    fields: Callable[[IntGraph, IntOp], Mapping[str, Any]] = _nothing,
    movable: int = -1,
) -> Operation:
    """The `Operation` of a kernel that is a table of a function, see `common.table_steps`."""
    steps = table_steps(function)
    compute = tabulated(function)
    return Operation(
        compute, builtin, options, version, fields, rounds_ties=True, steps=steps, margin=MARGIN, movable=movable
    )
