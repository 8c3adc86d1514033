"""The candidates of each layer: from names to a mixture, or to one quantizer where there is nothing to choose."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import keras

from tfqnas.dqss.quantize_settings import SearchSettings, TrainingSettings
from tfqnas.errors import SettingError, UserError, did_you_mean
from tfqnas.graph.reading import CONVOLUTIONS, MOVES, ONE_SCALE, sites_of
from tfqnas.quantizers import ROLES, Mixture, Quantizer, deployable, get, names, supports
from tfqnas.quantizers.registry import methods


def defaults(role: str, in_training: bool = False) -> tuple[str, ...]:
    """The names of the candidates that a role has by default (docs/results/dqss.md says why).

    Args:
        in_training: those of a search in training. Ranges that a calibration has fixed lead before it and lag after it,
            so they are left out.
    """
    found = [method for method in methods(role) if method.place is not None]
    return tuple(method.name for method in found if method.in_training or not in_training)


def singles() -> dict[str, tuple[str, str]]:
    """`{name: (weights, inputs)}` of the ways to quantize a whole network by one strategy."""
    found: dict[str, dict[str, str]] = {}
    for method in methods():
        own = found.setdefault(method.name, {})
        own[method.role] = method.name
        if method.partner is not None:
            other = next(role for role in ROLES if role != method.role)
            own.setdefault(other, method.partner)
    return {name: (own["weights"], own["inputs"]) for name, own in found.items() if len(own) == len(ROLES)}


def clipping(labels: Iterable[str]) -> list[str]:
    """Those of the names that are no candidates for inputs which lie below zero, since they clip there."""
    clip = {method.name for method in methods("inputs") if method.quantizer.traits.clips_at_zero}
    return [label for label in labels if label in clip]


def prototype(label: str, bits: int, role: str) -> Quantizer:
    """The quantizer of a strategy's name.

    Raises:
        UserError: for a name that no strategy has, with the nearest one, or that is not for this role or bit width.
    """
    if label not in names():
        known = names(role)
        raise SettingError(role, f"some of {', '.join(known)}", label, did_you_mean(label, known))
    try:
        return get(label, bits, role)
    except ValueError as error:
        raise UserError(f"`{role}={label}`: {error}") from None


def names_for(config: SearchSettings, role: str) -> tuple[str, ...]:
    """The names of a role's candidates; by default those that exist at the bit width."""
    given = getattr(config, role)
    usual = defaults(role, in_training=isinstance(config, TrainingSettings))
    found = tuple(given) or tuple(label for label in usual if _usable(label, config, role))
    if doubled := sorted({name for name in found if found.count(name) > 1}):
        raise SettingError(role, "each strategy once", doubled, " several times")
    refused = [name for name in found if supports(name, config.bits, role) and not _usable(name, config, role)]
    if refused:
        raise UserError(
            f"`{role}`: {', '.join(refused)}: no integer model computes that at {config.bits} bits; leave it out, or "
            "`deployable`"
        )
    return found


def _usable(label: str, config: SearchSettings, role: str) -> bool:
    return (deployable if config.deployable else supports)(label, config.bits, role)


def best_uniform(choice: Mapping[str, Any]) -> str:
    """In words, the deployable candidate with the largest coefficient.

    Args:
        choice: a record of "choices" in strategies.json.
    """
    found = {name: a for name, a in choice["candidates"].items() if deployable(name, choice["bits"], choice["role"])}
    if not found:
        return "no candidate could be"
    best = max(found, key=lambda name: found[name])
    return f"{best} (coefficient {found[best]:.2f})"


def mixture_for(config: SearchSettings, role: str, without: Collection[str] = ()) -> Quantizer:
    """The prototype of a role: `Mixture` of the candidates, or the one.

    Args:
        without: names of candidates that are left out.

    Raises:
        UserError: see `prototype`; also for a name that is there twice, and with `deployable` for a strategy that no
            integer model computes.
    """
    found = [prototype(label, config.bits, role) for label in names_for(config, role) if label not in without]
    return found[0] if len(found) == 1 else Mixture(found, config.temperature_start)


def within_int8(prototype: Quantizer) -> Quantizer:
    """A prototype of weights whose codes fit int8 with either sign: at 8 bits without the lowest one.

    The sign of a BatchNorm's factor goes into the codes when it is folded into the weights.
    """
    if isinstance(prototype, Mixture):
        candidates = [within_int8(candidate) for candidate in prototype.candidates]
        return Mixture(candidates, prototype.start, name=prototype.name)
    if prototype.bits < 8 or prototype.narrow_range:
        return prototype
    return type(prototype).from_config({**prototype.get_config(), "narrow_range": True})


def signed_inputs(model: keras.Model) -> list[str]:
    """The layers whose inputs may lie below zero, by what computes those: a list of names.

    Without the first layers, whose inputs nothing quantizes. An activation that falls a little below zero (h-swish)
    counts as well.

    Args:
        model: Keras model, without operations on tensors.
    """
    below: dict[int, bool] = {}
    behind: dict[int, bool] = {}
    found = []
    for site in sites_of(model):
        convolution = type(site.layer) in CONVOLUTIONS
        if convolution and any(behind[id(read)] and below[id(read)] for read in site.inputs):
            found.append(site.layer.name)
        behind[id(site)] = convolution or any(behind[id(read)] for read in site.inputs)
        if site.activation in ("relu", "relu6", "hard_sigmoid") or site.kind == "softmax":
            below[id(site)] = False
        elif site.activation == "none" and site.kind in (*MOVES, *ONE_SCALE, "mean", "add", "mul"):
            below[id(site)] = any(below[id(read)] for read in site.inputs)
        else:
            below[id(site)] = True
    return found


def refuse_unsigned(config: SearchSettings, signed: Sequence[str]) -> None:
    """Raises UserError where settings ask by name for a strategy that clips at zero, for these layers' inputs."""
    asked = clipping(config.inputs)
    if asked and signed:
        names = ", ".join(signed[:5]) + (f" and {len(signed) - 5} more" if len(signed) > 5 else "")
        raise UserError(
            f"`inputs`: {', '.join(asked)} clips at zero, but the inputs of {names} lie below it: take others, such as "
            "lsq"
        )
