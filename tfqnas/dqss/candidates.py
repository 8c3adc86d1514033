"""The candidates of each layer: from names to a mixture, or to one quantizer where there is nothing to choose."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from tfqnas.dqss.quantize_settings import SearchSettings, TrainingSettings
from tfqnas.errors import UserError, did_you_mean
from tfqnas.graph.reading import CONVOLUTIONS, MOVES, ONE_SCALE, sites_of
from tfqnas.quantizers import Mixed, Quantizer, get
from tfqnas.quantizers.names import NAMES, deployable, exists_for, name_of, supports

PER_CHANNEL = "_per_channel"
_WITH_CHANNELS = ("lsq", "min_max", "percentile", "mse", "kl")
# What a search takes by default (docs/results/dqss.md says why), and what a model quantized in one way is.
WEIGHTS = ("lsq", "lsq_per_channel", "lsq_plus", "dorefa", "mse", "mse_per_channel", "min_max_per_channel")
INPUTS = ("lsq", "lsq_plus", "pact", "mse", "percentile", "min_max")
# In training those that no calibration fixes. Fixed ranges lead before it and lag after it (docs/results/dqss.md).
_IN_TRAINING = {"weights": ("lsq", "lsq_plus", "dorefa"), "inputs": ("lsq", "lsq_plus", "pact")}
# Those that clip at zero are no candidates for inputs that lie below it.
UNSIGNED = ("pact", "dorefa", "apot")
# name: (weights, inputs). PACT is of inputs alone, and goes with the weights of DoReFa as in its paper (section 4).
SINGLES = {
    "lsq": ("lsq", "lsq"),
    "lsq_plus": ("lsq_plus", "lsq_plus"),
    "pact": ("dorefa", "pact"),
    "dorefa": ("dorefa", "dorefa"),
    "dsq": ("dsq", "dsq"),
    "apot": ("apot", "apot"),
    "min_max": ("min_max", "min_max"),
    "percentile": ("percentile", "percentile"),
    "mse": ("mse", "mse"),
    "kl": ("kl", "kl"),
    "min_max_per_channel": ("min_max_per_channel", "min_max"),
    "mse_per_channel": ("mse_per_channel", "mse"),
    "lsq_per_channel": ("lsq_per_channel", "lsq_plus"),  # inputs have no channels with steps of their own
}


def label_of(quantizer: Quantizer) -> str:
    """The name of a quantizer's strategy as settings write it."""
    return name_of(quantizer) + (PER_CHANNEL if getattr(quantizer, "axis", None) is not None else "")


def labels_of(quantizer: Quantizer) -> list[str]:
    """Those of a mixture's candidates, or the one."""
    return [label_of(q) for q in (quantizer.candidates if isinstance(quantizer, Mixed) else [quantizer])]


def prototype(label: str, bits: int, role: str) -> Quantizer:
    """The quantizer of a strategy's name.

    Raises:
        UserError: for a name that no strategy has, with the nearest one, or that is not for this role or bit width.
    """
    name, per_channel = label.removesuffix(PER_CHANNEL), label.endswith(PER_CHANNEL)
    channels = [f"{n}{PER_CHANNEL}" for n in _WITH_CHANNELS] if role == "weights" else []
    known = [*(n for n in NAMES if exists_for(n, role)), *channels]
    if name not in NAMES or (per_channel and label not in known):
        hint = did_you_mean(label, known)
        raise UserError(f"--{role}: expected some of {', '.join(known)}, received {label}{hint}")
    try:
        return get(name, bits, role, **({"axis": -1} if per_channel else {}))
    except ValueError as error:
        raise UserError(f"--{role}={label}: {error}") from None


def names_for(config: SearchSettings, role: str) -> tuple[str, ...]:
    """The names of a role's candidates; by default those that exist at the bit width."""
    given = getattr(config, role)
    in_training = isinstance(config, TrainingSettings)
    defaults = (_IN_TRAINING if in_training else {"weights": WEIGHTS, "inputs": INPUTS})[role]
    names = tuple(given) or tuple(label for label in defaults if _usable(label, config, role))
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--{role}: expected each strategy once, received {', '.join(doubled)} several times")
    refused = [name for name in names if _exists(name, config.bits, role) and not _usable(name, config, role)]
    if refused:
        raise UserError(
            f"--{role}: {', '.join(refused)}: no integer model computes that at {config.bits} bits; leave it out, or "
            "--deployable"
        )
    return names


def _exists(label: str, bits: int, role: str) -> bool:
    return supports(label.removesuffix(PER_CHANNEL), bits, role)


def _usable(label: str, config: SearchSettings, role: str) -> bool:
    name = label.removesuffix(PER_CHANNEL)
    return (deployable if config.deployable else supports)(name, config.bits, role)


def is_deployable(label: str, bits: int, role: str) -> bool:
    """Whether an integer model computes a strategy exactly, by its name."""
    return deployable(label.removesuffix(PER_CHANNEL), bits, role)


def best_uniform(choice: Mapping[str, Any]) -> str:
    """In words, the deployable candidate with the largest coefficient.

    Args:
        choice: a record of "choices" in strategies.json.
    """
    found = {name: a for name, a in choice["candidates"].items() if is_deployable(name, choice["bits"], choice["role"])}
    if not found:
        return "no candidate could be"
    best = max(found, key=lambda name: found[name])
    return f"{best} (coefficient {found[best]:.2f})"


def mixture_for(config: SearchSettings, role: str, without: Collection[str] = ()) -> Quantizer:
    """The prototype of a role: `Mixed` of the candidates, or the one.

    Args:
        without: names of candidates that are left out.

    Raises:
        UserError: see `prototype`; also for a name that is there twice, and with `deployable` for a strategy that no
            integer model computes.
    """
    found = [prototype(label, config.bits, role) for label in names_for(config, role) if label not in without]
    return found[0] if len(found) == 1 else Mixed(found, config.temperature_start)


def within_int8(prototype: Quantizer) -> Quantizer:
    """A prototype of weights whose codes fit int8 with either sign: at 8 bits without the lowest one.

    The sign of a BatchNorm's factor goes into the codes when it is folded into the weights.
    """
    if isinstance(prototype, Mixed):
        candidates = [within_int8(candidate) for candidate in prototype.candidates]
        return Mixed(candidates, prototype.start, name=prototype.name)
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
    asked = [name for name in UNSIGNED if name in config.inputs]
    if asked and signed:
        names = ", ".join(signed[:5]) + (f" and {len(signed) - 5} more" if len(signed) > 5 else "")
        raise UserError(
            f"--inputs: {', '.join(asked)} clips at zero, but the inputs of {names} lie below it: take others, such as "
            "lsq"
        )
