"""Quantizers by name, for settings and tools."""

from typing import Any

from tfqnas.errors import did_you_mean
from tfqnas.quantizers.apot import APoT
from tfqnas.quantizers.base import ROLES, Quantizer
from tfqnas.quantizers.batch_quant import BatchQuant
from tfqnas.quantizers.calibrated import Calibrated
from tfqnas.quantizers.calibrated_weights import CalibratedWeights
from tfqnas.quantizers.dorefa import DoReFa
from tfqnas.quantizers.dsq import DSQ
from tfqnas.quantizers.lsq import LSQ
from tfqnas.quantizers.lsq_per_channel import LSQPerChannel
from tfqnas.quantizers.lsq_plus import LSQPlus
from tfqnas.quantizers.min_max import MinMax
from tfqnas.quantizers.pact import PACT


def _both(cls: type[Quantizer]) -> dict[str, tuple[type[Quantizer], dict[str, Any]]]:
    return {role: (cls, {"role": role}) for role in ROLES}


def _calibrated(method: str) -> dict[str, tuple[type[Quantizer], dict[str, Any]]]:
    return {"weights": (CalibratedWeights, {"method": method}), "inputs": (Calibrated, {"method": method})}


# {name: {role: (class, arguments)}}
_NAMED: dict[str, dict[str, tuple[type[Quantizer], dict[str, Any]]]] = {
    "lsq": {"weights": (LSQ, {}), "inputs": (LSQ, {"signed": None})},
    "lsq_plus": _both(LSQPlus),
    "pact": {"inputs": (PACT, {})},
    "dorefa": _both(DoReFa),
    "dsq": _both(DSQ),
    "apot": _both(APoT),
    "min_max": _calibrated("min_max"),
    "percentile": _calibrated("percentile"),
    "mse": _calibrated("mse"),
    "kl": _calibrated("kl"),
    "batch_quant": {"inputs": (BatchQuant, {})},
}
NAMES = tuple(_NAMED)
# {name: class} of methods that have another class where weights have a scale for each channel.
_PER_CHANNEL: dict[str, type[Quantizer]] = {"lsq": LSQPerChannel}


def get(name: str, bits: int, role: str, **settings: Any) -> Quantizer:
    """The prototype quantizer of a method.

    Args:
        name: one of `NAMES`. bits: bit width. role: "weights" or "inputs".
        settings: further arguments of the class, such as `axis=-1` of "mse" or "lsq" for a scale for each channel of
            weights.

    Raises:
        ValueError: for a name that no method has, with the nearest one, and for a role or a bit width at which the
            method does not exist.
    """
    cls, arguments = _entry(name, role)
    cls.check_use(bits, role)
    if role == "weights" and settings.get("axis") is not None:
        cls = _PER_CHANNEL.get(name, cls)
    return cls(bits=bits, **{**arguments, **settings})


def exists_for(name: str, role: str) -> bool:
    """Whether a method, one of `NAMES`, is for this role, at whatever bit width."""
    return role in _NAMED[name]


def supports(name: str, bits: int, role: str) -> bool:
    """Whether `get` has a quantizer for this use."""
    try:
        return _entry(name, role)[0].supports(bits, role)
    except ValueError:
        return False


def deployable(name: str, bits: int, role: str) -> bool:
    """Whether `get` has a quantizer for this use that 8-bit integer models compute exactly."""
    return supports(name, bits, role) and _entry(name, role)[0].deployable(bits, role)


def _entry(name: str, role: str) -> tuple[type[Quantizer], dict[str, Any]]:
    if name not in _NAMED:
        hint = did_you_mean(name, NAMES)
        raise ValueError(f"quantizer: expected one of {', '.join(NAMES)}, received {name!r}{hint}")
    if role not in ROLES:
        raise ValueError(f"role: expected one of {', '.join(ROLES)}, received {role!r}")
    if role not in _NAMED[name]:
        raise ValueError(f"{name}: expected role {' or '.join(_NAMED[name])}, received {role!r}")
    return _NAMED[name][role]


def name_of(quantizer: Quantizer) -> str:
    """The name by which `get` knows a quantizer's method; of other classes the name of the class."""
    if isinstance(quantizer, MinMax):
        return "min_max"
    for name, roles in _NAMED.items():
        if type(quantizer) is _PER_CHANNEL.get(name):
            return name
        for cls, arguments in roles.values():
            if type(quantizer) is cls and arguments.get("method") in (None, getattr(quantizer, "method", None)):
                return name
    return type(quantizer).__name__
