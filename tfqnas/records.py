"""What is read back from files: strict JSON, checked against the types that are declared for it.

    class Score(TypedDict):
        accuracy: Annotated[float, Range(0, 1)]
        images: NotRequired[int]

    decode(line, "scored.jsonl, line 7", Score)

returns the value, or raises "scored.jsonl, line 7: accuracy: expected a number from 0 to 1, received null".

Types may be `float` (whole numbers too), `int`, `bool`, `str`, `None`, `Any`, `Literal`, unions, `list`, `tuple`,
`dict` with texts as keys, `TypedDict`s, and dataclasses, whose own checks follow. Numbers are finite. Fields must be
known, and be there unless they have a default. Of the libraries that do this, msgspec accepts duplicate keys and
unknown fields of dataclasses, and does not say what it received.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from typing import Annotated, Any, Literal, Union

from tfqnas.errors import UserError, did_you_mean

# Lists and objects within each other, in values of any type.
_DEEPEST = 50
# int64, as numpy and TensorFlow compute with.
_LARGEST = 2**63 - 1
_SHOWN, _LISTED = 60, 20


class RecordError(UserError, ValueError):
    """What is read back is not what is written there. The message names file, place, expected and received."""


class CutOff(RecordError):
    """A text that is not whole JSON, as a killed process may leave it."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Annotation of a number, or of the numbers in a list: its limits, which are included."""

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.high):
            return "" if math.isinf(self.low) else f"from {self.low:g} on"
        return f"from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Open:
    """Annotation of a `TypedDict` whose files may have other fields as well."""


@dataclasses.dataclass(frozen=True)
class As:
    """Annotation of JSON data: it must be a value of the type `kind`, but stays JSON data."""

    kind: Any


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]


class _Wrong(Exception):
    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}" if place else what)


def decode(text: str | bytes, where: str, kind: Any = Any) -> Any:
    """The value of a JSON text.

    Args:
        text: the text; a byte order mark before it is passed over.
        where: name of its source for messages, such as "space.json" or "scored.jsonl, line 7".
        kind: the type of the value, see above.

    Raises:
        CutOff: it is not whole JSON.
        RecordError: an object has a key twice, a number is too large, or the value is not of this type.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        if not text.strip():
            raise CutOff(_at(where, "expected JSON, received nothing: the file or the line is empty"))
        value = json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=_unique, parse_int=_whole, parse_constant=float
        )
    except json.JSONDecodeError as error:
        raise CutOff(_at(where, f"not valid JSON ({error}); was it cut off, or edited by hand?")) from None
    except UnicodeDecodeError as error:
        raise CutOff(_at(where, f"not valid JSON (byte {error.start} is not UTF-8); is it another file?")) from None
    except RecursionError:
        raise RecordError(_at(where, f"lists or objects are nested deeper than {_DEEPEST}")) from None
    except _Wrong as error:
        raise RecordError(_at(where, str(error))) from None
    return conform(value, kind, where)


def restored(source: str | bytes | dict[str, Any], kind: Any, where: str) -> Any:
    """`decode` for a text, `conform` for JSON data."""
    return decode(source, where, kind) if isinstance(source, (str, bytes)) else conform(source, kind, where)


def conform(value: Any, kind: Any, where: str) -> Any:
    """A value of JSON data as a value of the type `kind`: lists become tuples, and objects dataclasses, where declared.

    Raises:
        RecordError: the value is not of this type. `where` begins the message.
    """
    try:
        return _conform(value, kind, "")
    except _Wrong as error:
        raise RecordError(_at(where, str(error))) from None


def _at(where: str, what: str) -> str:
    return f"{where}: {what}" if where else what


def _whole(digits: str) -> float:
    return int(digits) if len(digits) < 20 else float(digits)  # Python refuses to read thousands of digits


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _Wrong("", f"{_shown(twice)} is there {names.count(twice)} times in the same object")
    return found


def _conform(value: Any, kind: Any, place: str) -> Any:
    kind, *marks = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
    limits = next((mark for mark in marks if isinstance(mark, Range)), Range())
    for mark in marks:
        if isinstance(mark, As):
            _conform(value, mark.kind, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _finite(value, place, 0)
    if kind in (int, float):
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, (int, kind)) and not isinstance(value, bool):
            finite = abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)
            if finite and limits.low <= value <= limits.high:
                return value
    elif kind in (bool, str):
        if isinstance(value, kind):
            return value
    elif kind in (None, type(None)):
        if value is None:
            return None
    elif origin is Literal:
        if any(value == one and type(value) is type(one) for one in arguments):
            return value
    elif origin in (Union, types.UnionType):
        for one in arguments:
            if _may_be(value, one):
                return _conform(value, one, place)
    elif origin in (list, tuple):
        if isinstance(value, (list, tuple)):
            return _items(value, origin, arguments, place)
    elif not isinstance(value, dict):
        pass
    elif origin is dict:
        return {name: _conform(inner, arguments[1], _within(place, name)) for name, inner in value.items()}
    else:
        return _object(value, kind, place, any(isinstance(mark, Open) for mark in marks))
    raise _Wrong(place, f"expected {f'{_named(kind)} {limits}'.rstrip()}, received {_shown(value)}")


def _items(value: Any, origin: Any, arguments: tuple[Any, ...], place: str) -> Any:
    kinds = arguments
    if origin is list or arguments[1:] == (...,):
        kinds = arguments[:1] * len(value)
    if len(kinds) != len(value):
        raise _Wrong(place, f"expected a list of {len(kinds)}, received one of {len(value)}")
    found = (_conform(one, kind, f"{place}[{i}]") for i, (one, kind) in enumerate(zip(value, kinds, strict=True)))
    return origin(found)


def _object(value: dict[str, Any], kind: Any, place: str, is_open: bool) -> Any:
    hints, needed = _fields(kind)
    value = {getattr(kind, "FORMER_NAMES", {}).get(name, name): inner for name, inner in value.items()}
    unknown = [name for name in value if name not in hints]
    if unknown and not is_open:
        near = did_you_mean(unknown[0], hints) if len(hints) > _LISTED else f"; known are {', '.join(hints)}"
        raise _Wrong(place, f"unknown field {', '.join(map(_cut, unknown[:5]))}{near}")
    if missing := [name for name in needed if name not in value]:
        raise _Wrong(place, f"missing field {', '.join(missing)}")
    found = {name: _conform(inner, hints.get(name, Any), _within(place, name)) for name, inner in value.items()}
    if not dataclasses.is_dataclass(kind):
        return found
    try:
        return typing.cast(type, kind)(**found)
    except (ValueError, UserError) as error:
        raise _Wrong(place, str(error)) from None


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], list[str]]:
    """The types of the fields of a `TypedDict` or dataclass, and the names of those that must be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if not dataclasses.is_dataclass(kind):
        bare = {name: _without_need(hint) for name, hint in hints.items()}
        return bare, [name for name in hints if name in kind.__required_keys__]
    fields = [field for field in dataclasses.fields(kind) if field.init]
    nothing = dataclasses.MISSING
    needed = [field.name for field in fields if field.default is nothing and field.default_factory is nothing]
    return {field.name: hints[field.name] for field in fields}, needed


def _without_need(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (typing.NotRequired, typing.Required) else hint


def _finite(value: Any, place: str, depth: int) -> Any:
    """JSON data of any type, without numbers that are not finite, and not nested too deep."""
    if depth > _DEEPEST:
        raise _Wrong(place[:_SHOWN], f"lists or objects are nested deeper than {_DEEPEST}")
    if isinstance(value, dict):
        return {name: _finite(inner, _within(place, name), depth + 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner, f"{place}[{i}]", depth + 1) for i, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(place, f"expected a finite number, received {_shown(value)}")
    return value


def _may_be(value: Any, kind: Any) -> bool:
    """Whether a value has the JSON type of one of the types of a union, which then says what is wrong with it."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in (bool, str):
        return isinstance(value, kind)
    return isinstance(value, (list, tuple) if typing.get_origin(kind) in (list, tuple) else dict)


def _within(place: str, name: str) -> str:
    return f"{place}.{_cut(name)}" if place else _cut(name)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _named(kind: Any) -> str:
    """A type in words."""
    if typing.get_origin(kind) is Annotated:
        kind, *marks = typing.get_args(kind)
        return " ".join([_named(kind), *(str(mark) for mark in marks if isinstance(mark, Range))])
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if typing.get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_named, typing.get_args(kind)))
    if typing.get_origin(kind) in (list, tuple):
        return "a list"
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(kind, "an object")


def _shown(value: Any) -> str:
    """A value as it stands in JSON, shortened."""
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object"
    return _cut(json.dumps(value, ensure_ascii=False))
