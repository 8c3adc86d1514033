"""Settings are frozen dataclasses whose fields have a help text. Tools have a flag for each field."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def setting(default: Any, help: str, fixed: bool = True) -> Any:
    """A field of a settings dataclass.

    Args:
        default: the default value.
        help: a line for `--help`.
        fixed: whether the field affects the result, so that a run cannot be continued with another value.
    """
    return dataclasses.field(default=default, metadata={"help": help, "fixed": fixed})


def plain(settings: Any) -> dict[str, Any]:
    """The settings as JSON data, a dictionary in which tuples are lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(settings).items()
    }


def first_difference(settings: Any, other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """`(name, value, other value)` of the first fixed field that differs, or None; `other` is JSON data."""
    ours = plain(settings)
    for field in dataclasses.fields(settings):
        if field.metadata["fixed"] and field.name in other and ours[field.name] != other[field.name]:
            return field.name, as_flag(ours[field.name]), as_flag(other[field.name])
    return None


def as_flag(value: Any) -> Any:
    """A value as it is written after a flag."""
    return ",".join(str(v) for v in value) if isinstance(value, (tuple, list)) else value
