"""The tasks by name."""

from typing import Any, TypeVar

TASKS: dict[str, Any] = {}
"""Classes of tasks by name, subclasses of `tfqnas.tasks.Task`."""

_Kind = TypeVar("_Kind", bound=type)


def register(kind: _Kind) -> _Kind:
    """A decorator that makes a `Task` known by its `name`."""
    TASKS[getattr(kind, "name")] = kind  # noqa: B009  mypy knows no name of a type
    return kind
