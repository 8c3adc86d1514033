"""Latency tables predict the latency of a subnet on one device from measurements of its pieces.

A network is cut into a beginning (first convolution), blocks, and an end (head and classifier). Channels between blocks
are not searched, so at a given resolution the time of a block depends only on its own kernel size and expand ratio, and
the time of a network is the sum. A linear correction, fitted on whole networks, accounts for what the sum misses, such
as caches and the overhead of calls. `tfqnas latency-table` measures tables.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from tfqnas.arch import Arch
from tfqnas.cost import sums_over_blocks
from tfqnas.errors import UserError
from tfqnas.files import read_regular
from tfqnas.records import NotNegative, Positive, Range, RecordError, restored
from tfqnas.search.pareto import kendall_tau
from tfqnas.spaces import SearchSpace

UNITS = ("ms", "cycles")
BEGIN, FIRST, FURTHER, END = "begin", "first", "further", "end"


class Piece(NamedTuple):
    """A piece of a network for which a table has a number.

    `part` is "begin", "end", "first" (block of a stage) or "further" (every other block of the stage, which are alike).
    `stage` counts from 0. For "begin" and "end", `stage`, `kernel` and `expand` are None.
    """

    part: str
    resolution: int
    stage: int | None = None
    kernel: int | None = None
    expand: float | None = None

    @property
    def key(self) -> str:
        """The piece as text such as "r24 begin" or "r24 stage2 first k3 e4", with stages from 1 as in layer names."""
        if self.stage is None:
            return f"r{self.resolution} {self.part}"
        return f"r{self.resolution} stage{self.stage + 1} {self.part} k{self.kernel} e{self.expand}"


def pieces_of(space: SearchSpace) -> tuple[Piece, ...]:
    """All `Piece`s of a `SearchSpace`, including fixed stages."""
    return tuple(
        Piece(part, resolution, stage, kernel, expand)
        for resolution in space.resolutions
        for part, stage, kernel, expand in ((BEGIN, None, None, None), *_block_pieces(space), (END, None, None, None))
    )


def _block_pieces(space: SearchSpace) -> Iterator[tuple[str, int, int, float]]:
    for s, stage in enumerate(space.stages):
        for part in (FIRST, FURTHER)[: stage.depths[-1]]:
            yield from ((part, s, kernel, expand) for kernel in stage.kernels for expand in stage.expands)


@dataclasses.dataclass(frozen=True)
class Validation:
    """Predicted and measured latencies of whole networks that took no part in the fit.

    Args:
        archs: keys of the architectures.
        predicted, measured: latency of each architecture in the table's unit.
    """

    archs: tuple[str, ...] = ()
    predicted: tuple[float, ...] = ()
    measured: tuple[Annotated[float, Range(1e-9)], ...] = ()

    def __post_init__(self) -> None:
        for field in ("archs", "predicted", "measured"):  # of numpy
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not len(self.archs) == len(self.predicted) == len(self.measured):
            raise ValueError("expected as many archs as predicted and measured numbers")

    @property
    def errors(self) -> np.ndarray:
        """float64 (n,): relative errors, predicted / measured - 1."""
        return np.divide(self.predicted, self.measured) - 1

    @property
    def error(self) -> float:
        """Mean absolute relative error, a fraction; NaN without networks."""
        return float(np.abs(self.errors).mean()) if self.archs else math.nan

    @property
    def tau(self) -> float:
        """Kendall's tau of predicted and measured latencies."""
        return kendall_tau(self.predicted, self.measured)


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Latencies of all subnets of a space on one device: `factor * sum over pieces + offset`.

    Args:
        space: `SearchSpace`.
        device: description of the device.
        unit: "ms" or "cycles" of one inference.
        threads: number of CPU threads; None for another processor.
        bits, classes, channels: bit width, classes and image channels of the measured networks.
        when: date and time as text.
        values: `{piece.key: number}` for all `pieces_of(space)`, without the overhead of a call.
        factor, offset: the result of `correction`.
        validation: `Validation`.

    Raises:
        ValueError: a field is wrong. The message names it.
    """

    space: SearchSpace
    device: str
    unit: str
    threads: Positive | None
    bits: Annotated[int, Range(2, 32)]
    classes: Annotated[int, Range(1, 10**6)]
    channels: Annotated[int, Range(1, 1024)]
    when: str
    values: dict[str, NotNegative]
    factor: float = 1.0
    offset: float = 0.0
    validation: Validation = Validation()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit: expected one of {', '.join(UNITS)}, received {self.unit!r}")
        if not isinstance(self.values, dict):
            raise ValueError(f"values: expected an object, received {self.values!r}")
        expected = {piece.key for piece in pieces_of(self.space)}
        for what, keys in (("missing", expected - self.values.keys()), ("unknown", self.values.keys() - expected)):
            if keys:
                raise ValueError(f"values: {len(keys)} {what}, such as {min(keys)!r}")
        numbers = {"factor": self.factor, "offset": self.offset, **self.values}
        for name, value in numbers.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or (value < 0 and name != "offset") or (value == 0 and name == "factor"):
                raise ValueError(f"{name}: expected a positive number, received {value!r}")

    def of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Latencies of many architectures, float64 (m,), from codes of `space.encode`, int (m, n)."""
        return self.factor * self.sums(codes) + self.offset

    def of(self, arch: Arch) -> float:
        """Latency of an `Arch`."""
        return float(self.of_codes(self.space.encode(arch)[None])[0])

    def sums(self, codes: np.ndarray) -> np.ndarray:
        """The same as `of_codes`, without the correction."""
        return sums_over_blocks(self.space, *self._tables, codes)[:, 0]

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, tuple[tuple[int, np.ndarray], ...]]:
        space = self.space
        constant, elastic = self._numbers(BEGIN) + self._numbers(END), []
        for s, stage in enumerate(space.stages):
            for block in range(stage.depths[-1]):
                numbers = self._numbers(FURTHER if block else FIRST, s, stage.kernels, stage.expands)
                if stage.fixed:
                    constant = constant + numbers
                else:
                    elastic.append((space.gene_index("kernel", s, block), numbers[..., np.newaxis]))
        return constant[:, 0], tuple(elastic)

    def _numbers(
        self,
        part: str,
        stage: int | None = None,
        kernels: Sequence[int | None] = (None,),
        expands: Sequence[float | None] = (None,),
    ) -> np.ndarray:
        """float64 (resolutions, kernels, expands)."""
        resolutions = self.space.resolutions
        keys = [[[Piece(part, r, stage, k, e).key for e in expands] for k in kernels] for r in resolutions]
        return np.vectorize(self.values.get, otypes=[np.float64])(keys)

    @property
    def holds_for(self) -> str:
        """One line that says for which networks and which device the table holds."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.threads else ""
        network = f"{self.bits} bits, {self.classes} classes, {self.channels} channel{'s' * (self.channels != 1)}"
        return f"space {self.space.name} ({network}) on {self.device}{threads}"

    def to_json(self) -> str:
        """The table as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any], where: str = "latency table") -> Self:
        """The table that `to_json` wrote.

        Args:
            source: the text, or the dictionary parsed from it.
            where: name of the source, for messages.

        Raises:
            RecordError: a field is unknown, missing or wrong. The message names it.
        """
        return restored(source, cls, where)

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path,
        space: SearchSpace | None = None,
        bits: object = None,
        classes: int | None = None,
        channels: int | None = None,
    ) -> Self:
        """The table in a file.

        Args:
            path: path of the file.
            space, bits, classes, channels: the networks that the table must hold for; None for any. Networks of all bit
                widths below 8 run the same operations, so that they can share a table.

        Raises:
            UserError: the file does not exist, is not a complete table, or holds for other networks.
        """
        if not pathlib.Path(path).exists():
            raise UserError(f"latency table {path}: no such file; tfqnas latency-table makes one")
        try:
            table = cls.from_json(read_regular(path), f"latency table {path}")
        except RecordError as error:
            raise UserError(f"{error}; tfqnas latency-table makes such files") from None
        if space is not None and table.space != space:
            raise UserError(f"latency table {path}: expected one of space {space.name}, {_difference(space, table)}")
        for name, ours in (("classes", classes), ("channels", channels)):
            if ours is not None and getattr(table, name) != ours:
                raise UserError(
                    f"latency table {path}: expected one of networks of {ours} {name}, it is of "
                    f"{getattr(table, name)}; tfqnas latency-table --run_dir takes them from the run"
                )
        if isinstance(bits, int) and (bits < 8) != (table.bits < 8):
            same = "of less than 8 bits, which all run the same operations" if bits < 8 else f"of {bits} bits"
            raise UserError(f"latency table {path}: expected one of networks {same}, it is of {table.bits} bits")
        return table


def _difference(space: SearchSpace, table: LatencyTable) -> str:
    if table.space.name != space.name:
        return f"it is of {table.space.name}"
    fields = [field.name for field in dataclasses.fields(space)]
    other = [name for name in fields if getattr(space, name) != getattr(table.space, name)]
    return f"it is of another space of that name, with other {', '.join(other)}"


def correction(sums: ArrayLike, measured: ArrayLike) -> tuple[float, float]:
    """`(factor, offset)` with which `factor * sums + offset` fits `measured`, by least squares of the relative errors.

    The errors are relative since a search compares networks of similar cost, whether small or large.

    Args:
        sums, measured: (n,) positive numbers, n at least 2.

    Raises:
        UserError: no rising line fits, for example if the noise is too large.
    """
    sums, measured = np.asarray(sums, np.float64), np.asarray(measured, np.float64)
    rows = np.stack((sums, np.ones_like(sums)), axis=1) / measured[:, np.newaxis]
    (factor, offset), _, rank, _ = np.linalg.lstsq(rows, np.ones_like(sums))
    if rank < 2 or factor <= 0:
        raise UserError(
            f"the latencies of whole networks ({_range(measured)}) do not rise with the sums of their pieces "
            f"({_range(sums)}): measure more networks, for longer, on a quieter device"
        )
    return float(factor), float(offset)


def _range(numbers: np.ndarray) -> str:
    return f"{numbers.min():.4g} to {numbers.max():.4g}"
