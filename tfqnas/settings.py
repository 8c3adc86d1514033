"""Settings are frozen dataclasses whose fields say what they are for and which values they may have.

A command has a flag for each field.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import operator
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tfqnas.errors import SettingError, as_text, did_you_mean
from tfqnas.records import Count, RecordError, conform

# Numbers are computed with as float32.
_LARGEST = 3.4e38
# Whole numbers are seeds, sizes and counts for TensorFlow, which takes int32.
_LARGEST_WHOLE = 2**31 - 1
_NOUNS = {int: "whole number", float: "number"}
_TESTS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


def setting(
    default: Any,
    help: str,
    *,
    fixed: bool = True,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    or_zero: bool = False,
    choices: Collection[str] = (),
    only: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """A field of `Settings`. What is said of a value holds for each one of a tuple.

    Args:
        default: its value where the user says nothing; it is always allowed.
        help: a line that explains it. Names of other settings stand in backquotes.
        fixed: whether it belongs to the result, so that what is begun cannot go on with another value.
        at_least, above, at_most, below: the range of a number. A number is finite in any case.
        or_zero: whether 0 is allowed as well.
        choices: the texts that are allowed; a registry may grow later.
        only: where it has an effect: names of other fields or of properties, and the values that these have there.
            Without values: any but 0, "none" and nothing.
    """
    metadata = {
        "help": help,
        "fixed": fixed,
        "range": {"at_least": at_least, "above": above, "at_most": at_most, "below": below},
        "or_zero": or_zero,
        "choices": choices,
        "only": dict(only or {}),
    }
    return dataclasses.field(default=default, metadata=metadata)


# A setting that is a part of a whole.
share = functools.partial(setting, at_least=0, at_most=1)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A record whose fields are made by `setting`. It is checked when it is made.

    Raises:
        SettingError: for a value that the declaration of its field does not allow.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # of JSON data
                object.__setattr__(self, field.name, value := tuple(value))
            _check(field, value)

    def without_effect(self, name: str) -> tuple[str, str] | None:
        """None, or `(why, where it has one)` of a field that has no effect with the others, settings in backquotes."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        for other, values in fields[name].metadata["only"].items():
            value = getattr(self, other)
            if not values and value in (0, "", "none", ()):
                return f"without `{other}`", f"`{other}`"
            # Several values are names of which an empty tuple means all.
            has_one = not value or set(value) & set(values) if isinstance(value, tuple) else value in values
            if values and not has_one:
                prefix = f"{other}=" * (other in fields)
                here, *there = (f"`{prefix}{text}`" if prefix else text for text in (as_text(value), *values))
                return f"with {here}", " or ".join(there)
        return None


def limits(field: dataclasses.Field[Any]) -> str:
    """Which values a field may have, such as "from 2 to 16" or "one of kl, mse"; "" where any is allowed."""
    if choices := field.metadata["choices"]:
        return f"{'some' if _is_tuple(field) else 'one'} of {', '.join(choices)}"
    return "0 or " * field.metadata["or_zero"] + _range(field)


def plain(settings: Any) -> dict[str, Any]:
    """The settings as JSON data, a dictionary in which tuples are lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(settings).items()
    }


# The name under which a file of settings has their number, so that a missing one is noticed.
COUNT = "settings"


def written(settings: Any) -> dict[str, Any]:
    """The settings as JSON data for a file that `read_back` reads."""
    return {COUNT: len(dataclasses.fields(settings)), **plain(settings)}


def read_back(
    cls: Any,
    kept: Mapping[str, Any],
    where: str,
    say: Callable[[str], object] = lambda line: None,
    gone: Collection[tuple[str, Any]] = (),
) -> Any:
    """The settings that `written` gave, in this version or an earlier one.

    Args:
        cls: class of the settings.
        kept: the JSON data.
        where: name of the file, for messages.
        say: called with a line if settings that were added later take their defaults.
        gone: settings of earlier versions, each with the value that had no effect.

    Raises:
        RecordError: a setting is missing, unknown, or has a value that it cannot have.
    """
    values = {name: value for name, value in kept.items() if name != COUNT and (name, value) not in gone}
    config = conform(values, cls, where)
    missing = [field.name for field in dataclasses.fields(cls) if field.name not in values]
    count = conform(kept.get(COUNT), Count | None, f"{where}: {COUNT}")
    if count is not None and len(kept) - 1 < count:
        raise RecordError(f"{where}: expected {count} settings, received {len(kept) - 1}: missing {', '.join(missing)}")
    if missing:
        say(f"{where}: an earlier version wrote it; settings that came later have their defaults: {', '.join(missing)}")
    return config


def first_difference(settings: Any, other: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """`(name, value, other value)` of the first fixed field that differs, or None; `other` is JSON data."""
    ours = plain(settings)
    for field in dataclasses.fields(settings):
        if field.metadata["fixed"] and field.name in other and ours[field.name] != other[field.name]:
            return field.name, as_text(ours[field.name]), as_text(other[field.name])
    return None


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    values = value if isinstance(value, tuple) else (value,)
    kinds = typing.get_args(field.type)
    if _is_tuple(field) and ... not in kinds and len(values) != len(kinds):
        raise SettingError(field.name, f"{len(kinds)} values", value)
    wrong = [one for one in values if not _allows(field, one)]
    if not wrong or (value == field.default and not isinstance(value, bool)):
        return
    expected = limits(field)
    if noun := _NOUNS.get(_kind(field)):
        finite = "finite " * any(isinstance(one, numbers.Real) and not math.isfinite(one) for one in wrong)
        noun = f"{finite}{noun}s" if _is_tuple(field) else f"a {finite}{noun}"
        expected = "0 or " * field.metadata["or_zero"] + f"{noun} {_range(field)}".rstrip()
        if _kind(field) is int and any(isinstance(one, int) and abs(one) > _LARGEST_WHOLE for one in wrong):
            expected += f", at most {field.metadata['range']['at_most'] or _LARGEST_WHOLE}"
    hint = did_you_mean(wrong[0], field.metadata["choices"])
    raise SettingError(field.name, expected, wrong[0] if field.metadata["choices"] else value, hint)


def _allows(field: dataclasses.Field[Any], value: Any) -> bool:
    kind = _kind(field)
    if field.metadata["choices"]:
        return value in field.metadata["choices"]
    if kind not in _NOUNS or (value == 0 and field.metadata["or_zero"]):
        return True
    number = numbers.Integral if kind is int else numbers.Real
    bounds = {name: bound for name, bound in field.metadata["range"].items() if bound is not None}
    return (
        isinstance(value, number)
        and not isinstance(value, bool)
        and abs(typing.cast(float, value)) <= (_LARGEST_WHOLE if kind is int else _LARGEST)
        and all(_TESTS[name](value, bound) for name, bound in bounds.items())
    )


def _range(field: dataclasses.Field[Any]) -> str:
    at_least, above, at_most, below = (
        "" if bound is None else f"{bound:g}" for bound in field.metadata["range"].values()
    )
    if at_least:
        return f"from {at_least} " + (f"to {at_most}" if at_most else f"to below {below}" if below else "on")
    if above:
        return f"between {above} and {below}" if below else f"above {above}" + f", at most {at_most}" * bool(at_most)
    return ""


def _is_tuple(field: dataclasses.Field[Any]) -> bool:
    return typing.get_origin(field.type) is tuple


def _kind(field: dataclasses.Field[Any]) -> Any:
    return typing.get_args(field.type)[0] if _is_tuple(field) else field.type
