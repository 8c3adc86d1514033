"""Makes the quantizers of each layer from the names of strategies: a mixture of candidates, or a single quantizer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import keras

from tfqnas.dqss.quantize_settings import SearchSettings, TrainingSettings
from tfqnas.errors import SettingError, UserError, did_you_mean
from tfqnas.graph.reading import sites_of
from tfqnas.graph.sites import CONVOLUTIONS, MOVES, ONE_SCALE
from tfqnas.quantizers import ROLES, Mixture, Quantizer, deployable, get, names, supports
from tfqnas.quantizers.registry import methods


def defaults(role: str, in_training: bool = False) -> tuple[str, ...]:
    """The names of a role's default candidates; docs/results/dqss.md has the reasons.

    Args:
        in_training: whether the search is in training. Its defaults leave out ranges that calibration fixes: they are
            ahead before training and fall back after it.
    """
    found = [method for method in methods(role) if method.place is not None]
    return tuple(method.name for method in found if method.in_training or not in_training)


def singles() -> dict[str, tuple[str, str]]:
    """`{name: (weights, inputs)}`, the strategies that can quantize a whole network."""
    found: dict[str, dict[str, str]] = {}
    for method in methods():
        own = found.setdefault(method.name, {})
        own[method.role] = method.name
        if method.partner is not None:
            other = next(role for role in ROLES if role != method.role)
            own.setdefault(other, method.partner)
    return {name: (own["weights"], own["inputs"]) for name, own in found.items() if len(own) == len(ROLES)}


def clipping(labels: Iterable[str]) -> list[str]:
    """The given names of strategies that clip at zero, so that they are no candidates for negative inputs."""
    clip = {method.name for method in methods("inputs") if method.quantizer.traits.clips_at_zero}
    return [label for label in labels if label in clip]


def prototype(label: str, bits: int, role: str) -> Quantizer:
    """The quantizer of the strategy with this name.

    Raises:
        UserError: for an unknown name, with the nearest known one, and for a strategy without this role or bit width.
    """
    if label not in names():
        known = names(role)
        raise SettingError(role, f"some of {', '.join(known)}", label, did_you_mean(label, known))
    try:
        return get(label, bits, role)
    except ValueError as error:
        raise UserError(f"`{role}={label}`: {error}") from None


def names_for(config: SearchSettings, role: str) -> tuple[str, ...]:
    """The names of a role's candidates: those of the settings, else the defaults that exist at the bit width."""
    given = getattr(config, role)
    usual = defaults(role, in_training=isinstance(config, TrainingSettings))
    found = tuple(given) or tuple(label for label in usual if _usable(label, config, role))
    if doubled := sorted({name for name in found if found.count(name) > 1}):
        raise SettingError(role, "each strategy once", doubled, " several times")
    refused = [name for name in found if supports(name, config.bits, role) and not _usable(name, config, role)]
    if refused:
        raise UserError(
            f"`{role}`: no integer model computes {', '.join(refused)} at {config.bits} bits; leave it out, or "
            "`deployable`"
        )
    return found


def _usable(label: str, config: SearchSettings, role: str) -> bool:
    return (deployable if config.deployable else supports)(label, config.bits, role)


def best_uniform(choice: Mapping[str, Any]) -> str:
    """The text for the deployable candidate with the largest coefficient.

    Args:
        choice: a record of "choices" in strategies.json.
    """
    found = {name: a for name, a in choice["candidates"].items() if deployable(name, choice["bits"], choice["role"])}
    if not found:
        return "no candidate could be exported"
    best = max(found, key=lambda name: found[name])
    return f"{best} (coefficient {found[best]:.2f})"


def mixture_for(config: SearchSettings, role: str, without: Collection[str] = ()) -> Quantizer:
    """The prototype of a role: a `Mixture` of the candidates, or the only candidate.

    Args:
        without: names of candidates to leave out.

    Raises:
        UserError: see `prototype`; also for a repeated name, and with `deployable` for a strategy that no integer model
            computes.
    """
    found = [prototype(label, config.bits, role) for label in names_for(config, role) if label not in without]
    return found[0] if len(found) == 1 else Mixture(found, config.temperature_start)


def within_int8(prototype: Quantizer) -> Quantizer:
    """A prototype of weights whose codes fit int8 with either sign, so an 8-bit one does without the lowest code.

    Folding a BatchNorm into the weights can change the sign of the codes.
    """
    if isinstance(prototype, Mixture):
        candidates = [within_int8(candidate) for candidate in prototype.candidates]
        return Mixture(candidates, prototype.start, name=prototype.name)
    if prototype.bits < 8 or prototype.narrow_range:
        return prototype
    return type(prototype).from_config({**prototype.get_config(), "narrow_range": True})


def signed_inputs(model: keras.Model) -> list[str]:
    """The names of the layers whose inputs may be negative, as told by the layers that compute these inputs.

    First layers are left out, since their inputs are not quantized. An activation that falls only a little below zero
    (h-swish) counts as negative.

    Args:
        model: Keras model, without operations on tensors.
    """
    below: dict[int, bool] = {}
    behind: dict[int, bool] = {}
    found = []
    for site in sites_of(model):
        convolution = site.kind in CONVOLUTIONS and hasattr(site.layer, "kernel")
        if convolution and any(behind[id(read)] and below[id(read)] for read in site.inputs):
            found.append(site.layer.name)
        behind[id(site)] = convolution or any(behind[id(read)] for read in site.inputs)
        if site.activation in ("relu", "relu6", "hard_sigmoid") or site.kind in ("softmax", "logistic"):
            below[id(site)] = False
        elif site.activation == "none" and site.kind in (*MOVES, *ONE_SCALE, "mean", "add", "mul", "requantize"):
            below[id(site)] = any(below[id(read)] for read in site.inputs)
        else:
            below[id(site)] = True
    return found


def refuse_unsigned(config: SearchSettings, signed: Sequence[str]) -> None:
    """Raises UserError if the settings name a strategy that clips at zero while these layers have negative inputs."""
    asked = clipping(config.inputs)
    if asked and signed:
        names = ", ".join(signed[:5]) + (f" and {len(signed) - 5} more" if len(signed) > 5 else "")
        raise UserError(
            f"`inputs`: {', '.join(asked)} clips at zero, but the inputs of {names} lie below it; take others, such as "
            "lsq"
        )
