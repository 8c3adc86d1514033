"""An architecture: one choice in every dimension of a search space."""

import dataclasses
import json
import re

# So that `Arch.key` can be a file name on every system.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True)
class Arch:
    """One subnet of a search space. Whether its values are choices of the space: `SearchSpace.validate`.

    Only blocks that the subnet has are listed, so two equal subnets are equal objects.

    Args:
        space: name of the search space: letters, digits, "_", "." and "-".
        resolution: height and width of the input image, in pixels.
        depths: number of blocks in each searched stage.
        kernels: kernel size of each block's depthwise convolution; `sum(depths)` of them, in order.
        expands: expand ratio of each block, as many.

    Raises:
        ValueError: a value is not a positive number, or the lengths do not fit together.
    """

    space: str
    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[float, ...]

    def __post_init__(self):
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

    def to_json(self):
        """The architecture as one line of JSON; equal architectures give equal text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, source):
        """The architecture that `to_json` wrote.

        Args:
            source: the JSON text, or the dict parsed from it.

        Raises:
            ValueError: this is no JSON object, a field is unknown or missing, or a value is wrong.
        """
        return cls(**fields_from_json(cls, source, "architecture"))

    @property
    def key(self):
        """Short and readable, usable as a file name; different for different architectures.

        Such as "tiny-r24-d2.1.1-k3.5.3.3-e3.4.6.3" (resolution, depths, kernels, expand ratios). The "." of
        an expand ratio that is no whole number is written "p", since "." separates.
        """
        lists = (
            letter + ".".join(str(value).replace(".", "p") for value in values)
            for letter, values in (("d", self.depths), ("k", self.kernels), ("e", self.expands))
        )
        return "-".join((self.space, f"r{self.resolution}", *lists))


def fields_from_json(cls, source, where):
    """The fields of dataclass `cls` from JSON text or a dict; fields with a default may be missing.

    Raises:
        ValueError: naming `where`, what is unknown, missing or no JSON object.
    """
    if isinstance(source, (str, bytes)):
        try:
            source = json.loads(source)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(source, dict):
        raise ValueError(f"{where}: expected a JSON object, received {source!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = [name for name in source if name not in fields]
    if unknown:
        raise ValueError(f"{where}: unknown field {', '.join(unknown)}; known are {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING and name not in source
    ]
    if missing:
        raise ValueError(f"{where}: missing field {', '.join(missing)}")
    return source


def _number(field, value):
    """`value` as a Python number, whole ones as int: then 3, 3.0 and numpy's 3 are written alike."""
    if type(value) is not int:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{field}: expected a positive number, received {value!r}")
    return value


def _whole(field, value):
    if not isinstance(value, int):
        raise ValueError(f"{field}: expected a whole number, received {value!r}")
    return value
