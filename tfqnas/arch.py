"""An architecture: one choice in every dimension of a search space."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from tfqnas.records import As, restored

# Only these characters, so that `Arch.key` can be a file name on every system.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# As a choice of bit width, this stands for no quantization.
FLOAT_BITS = 32
BIT_WIDTHS = (*range(2, 9), FLOAT_BITS)


@dataclasses.dataclass(frozen=True)
class Arch:
    """One subnet of a search space. `SearchSpace.validate` checks that its values are choices of the space.

    Only the blocks of the subnet are listed, so that equal subnets are equal objects.

    Args:
        space: name of the search space: letters, digits, "_", "." and "-".
        resolution: height and width of the input image, in pixels.
        depths: number of blocks in each searched stage.
        kernels: kernel size of each block's depthwise convolution, `sum(depths)` values.
        expands: expand ratio of each block, `sum(depths)` values.
        bits: bit widths (weights, inputs) of each quantized convolution of the subnet in the order of computation:
            expansion (if there is one), depthwise and projection of every block, also in fixed stages, then the head,
            then the feature layer (if there is one). 32 stands for no quantization. None if the space has no bit
            widths.

    Raises:
        ValueError: a value is not a positive number, the lengths do not match, or a bit width is neither 2 to 8 nor
            32.
    """

    space: str
    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[float, ...]
    bits: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.space, str) or not NAME.fullmatch(self.space):
            raise ValueError(f"space: expected letters, digits, '_', '.' and '-', received {self.space!r}")
        object.__setattr__(self, "resolution", _whole("resolution", _number("resolution", self.resolution)))
        for field in ("depths", "kernels", "expands"):
            values = getattr(self, field)
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise ValueError(f"{field}: expected a list of numbers, received {values!r}")
            values = tuple(_number(field, value) for value in values)
            if field != "expands":
                values = tuple(_whole(field, value) for value in values)
            object.__setattr__(self, field, values)
        blocks = sum(self.depths)
        for field in ("kernels", "expands"):
            received = len(getattr(self, field))
            if received != blocks:
                raise ValueError(
                    f"{field}: expected {blocks} values, one for each block of depths {self.depths}, "
                    f"received {received}"
                )
        if self.bits is not None:
            object.__setattr__(self, "bits", _bit_pairs(self.bits))

    def to_json(self) -> str:
        """The architecture as a line of JSON, the same for equal architectures. `bits` is left out if it is None."""
        fields = dataclasses.asdict(self)
        if self.bits is None:
            del fields["bits"]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, source: str | bytes | dict[str, Any], where: str = "architecture") -> Self:
        """The architecture that `to_json` wrote.

        Args:
            source: the JSON text, or the dictionary parsed from it.
            where: name of the source, for messages.

        Raises:
            RecordError: the source is not a JSON object, a field is unknown or missing, or a value is wrong.
        """
        return restored(source, cls, where)

    @property
    def key(self) -> str:
        """A short, readable and unique name, usable as a file name.

        An example is "tiny-r24-d2.1.1-k3.5.3.3-e3.4.6.3" (resolution, depths, kernels, expand ratios). Since "."
        separates values, the "." of a fractional expand ratio is written "p".

        Bit widths of weights and inputs follow, such as "-w4432-a4", with one character per convolution and "f" for 32.
        A single character stands for equal bit widths of all convolutions.
        """
        lists = (
            letter + ".".join(str(value).replace(".", "p") for value in values)
            for letter, values in (("d", self.depths), ("k", self.kernels), ("e", self.expands))
        )
        return "-".join((self.space, f"r{self.resolution}", *lists, *self._bits_key()))

    def _bits_key(self) -> Iterator[str]:
        columns = zip(*self.bits, strict=True) if self.bits else ()
        for letter, widths in zip("wa", columns, strict=False):
            text = "".join("f" if width == FLOAT_BITS else str(width) for width in widths)
            yield letter + (text[0] if len(set(text)) == 1 else text)


# JSON data of an architecture.
ArchData = Annotated[dict[str, Any], As(Arch)]


def _number(field: str, value: Any) -> float:
    """`value` as a Python number. Whole numbers become int, so that 3, 3.0 and numpy's 3 are written alike."""
    if type(value) is not int:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{field}: expected a positive number, received {value!r}")
    return value


def _bit_pairs(pairs: Any) -> tuple[tuple[float, ...], ...]:
    """`pairs` as a tuple of pairs of ints."""
    expected = f"bits: expected None or pairs (weights, inputs) of bit widths from 2 to 8 or {FLOAT_BITS}"
    if isinstance(pairs, str) or not hasattr(pairs, "__iter__"):
        raise ValueError(f"{expected}, received {pairs!r}")
    found = []
    for i, pair in enumerate(pairs, 1):
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"{expected}, received {pair!r} for convolution {i}")
        found.append(tuple(_number(f"bits: convolution {i}", width) for width in pair))
        if not set(found[-1]) <= set(BIT_WIDTHS):
            raise ValueError(f"{expected}, received {found[-1]} for convolution {i}")
    if not found:
        raise ValueError(f"{expected}, received {pairs!r}")
    return tuple(found)


def _whole(field: str, value: float) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{field}: expected a whole number, received {value!r}")
    return value
