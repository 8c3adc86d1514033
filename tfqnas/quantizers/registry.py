"""Quantization methods by their names in settings and tools. The file of a method registers it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tfqnas.errors import did_you_mean
from tfqnas.quantizers.base import Quantizer
from tfqnas.quantizers.roles import OfRole
from tfqnas.quantizers.traits import ROLES

Class = TypeVar("Class", bound=type[Quantizer])


@dataclasses.dataclass(frozen=True)
class Method:
    """A registered method in one role, with the arguments of `register`."""

    name: str
    role: str
    quantizer: type[Quantizer]
    arguments: Mapping[str, Any]
    place: int | None
    in_training: bool
    partner: str | None


_METHODS: dict[tuple[str, str], Method] = {}
_NAME_OF: dict[type[Quantizer], str] = {}


def register(
    name: str,
    *roles: str,
    place: int | None = None,
    in_training: bool = False,
    partner: str | None = None,
    **arguments: Any,
) -> Callable[[Class], Class]:
    """Decorator that gives a `Quantizer` class a name.

    Args:
        name: name of the method in settings and flags.
        roles: roles with this name; by default all roles of the class.
        place: position among the default candidates of a search for strategies (`tfqnas.dqss`). With None it is a
            candidate only if it is named.
        in_training: whether it is also a default candidate in a search that trains weights.
        partner: for a name with one role, the method of the other role that completes it to a strategy of a whole
            network. With None it cannot be one.
        arguments: arguments of the class, besides its bit width.
    """

    def decorator(cls: Class) -> Class:
        for role in roles or cls.traits.roles:
            known = _METHODS.get((name, role))
            if known is not None and known.quantizer.__qualname__ != cls.__qualname__:
                raise ValueError(f"quantizer: {name} of {role} is {known.quantizer.__name__} already")
            own = {"role": role, **arguments} if issubclass(cls, OfRole) else arguments
            _METHODS[name, role] = Method(name, role, cls, own, place, in_training, partner)
        _NAME_OF.setdefault(cls, name)
        return cls

    return decorator


def methods(role: str | None = None) -> list[Method]:
    """The methods of a role, or all methods, with default candidates first by position, and others by name."""
    found = [method for method in _METHODS.values() if role in (None, method.role)]
    return sorted(found, key=lambda m: (m.place is None, m.place, m.name, m.role))


def names(role: str | None = None) -> tuple[str, ...]:
    """The names of `methods` without duplicates."""
    return tuple(dict.fromkeys(method.name for method in methods(role)))


def get(name: str, bits: int, role: str, **settings: Any) -> Quantizer:
    """The prototype quantizer of a method.

    Args:
        name: one of `names()`.
        bits: bit width.
        role: "weights" or "inputs".
        settings: further arguments of the class.

    Raises:
        ValueError: for an unknown name, with the nearest known one, and for a role or a bit width that the method does
            not have.
    """
    method = _found(name, role)
    method.quantizer.traits.check(method.quantizer.__name__, bits, role)
    return method.quantizer(bits=bits, **{**method.arguments, **settings})


def supports(name: str, bits: int, role: str) -> bool:
    """Whether `get` has a quantizer for this use."""
    return (name, role) in _METHODS and _found(name, role).quantizer.traits.supports(bits, role)


def deployable(name: str, bits: int, role: str) -> bool:
    """Whether `get` has a quantizer for this use that 8-bit integer models compute exactly."""
    return (name, role) in _METHODS and _found(name, role).quantizer.traits.deployable(bits, role)


def name_of(quantizer: Quantizer) -> str:
    """The name of a quantizer's method for `get`, or the name of its class if that is not registered."""
    return quantizer.strategy or _NAME_OF.get(type(quantizer), type(quantizer).__name__)


def _found(name: str, role: str) -> Method:
    known = names()
    if name not in known:
        raise ValueError(f"quantizer: expected one of {', '.join(known)}, received {name!r}{did_you_mean(name, known)}")
    if role not in ROLES:
        raise ValueError(f"role: expected one of {', '.join(ROLES)}, received {role!r}")
    if (name, role) not in _METHODS:
        roles = [other for other in ROLES if (name, other) in _METHODS]
        raise ValueError(f"{name}: expected role {' or '.join(roles)}, received {role!r}")
    return _METHODS[name, role]
