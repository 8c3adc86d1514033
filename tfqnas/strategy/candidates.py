"""The candidates of each layer: from names to a mixture, or to one quantizer where there is nothing to choose."""

import difflib

from tfqnas.errors import UserError
from tfqnas.quantizers import Mixed, get
from tfqnas.quantizers.names import NAMES, deployable, name_of, supports

PER_CHANNEL = "_per_channel"
_WITH_CHANNELS = ("min_max", "percentile", "mse", "kl")
# What a search takes by default (docs/results.md says why), and what a model quantized in one way is.
WEIGHTS = ("lsq", "lsq_plus", "dorefa", "mse", "mse_per_channel", "min_max_per_channel")
INPUTS = ("lsq", "lsq_plus", "pact", "mse", "percentile")
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
}


def label_of(quantizer):
    """The name of a quantizer's strategy as settings write it."""
    return name_of(quantizer) + (PER_CHANNEL if getattr(quantizer, "axis", None) is not None else "")


def labels_of(quantizer):
    """Those of a mixture's candidates, or the one."""
    return [label_of(q) for q in (quantizer.candidates if isinstance(quantizer, Mixed) else [quantizer])]


def prototype(label, bits, role):
    """The quantizer of a strategy's name.

    Raises:
        UserError: for a name that no strategy has, with the nearest one, or that is not for this role or bit width.
    """
    name, per_channel = label.removesuffix(PER_CHANNEL), label.endswith(PER_CHANNEL)
    known = [*NAMES, *(f"{n}{PER_CHANNEL}" for n in _WITH_CHANNELS)] if role == "weights" else list(NAMES)
    if name not in NAMES or (per_channel and label not in known):
        near = difflib.get_close_matches(label.lower().replace("-", "_"), known, n=1, cutoff=0.4)
        hint = f", did you mean {near[0]}?" if near else ""
        raise UserError(f"--{role}: expected some of {', '.join(known)}, received {label}{hint}")
    try:
        return get(name, bits, role, **({"axis": -1} if per_channel else {}))
    except ValueError as error:
        raise UserError(f"--{role}={label}: {error}") from None


def names_for(config, role):
    """The names of a role's candidates; by default those that exist at the bit width."""
    given = getattr(config, role)
    names = tuple(given) or tuple(
        label for label in {"weights": WEIGHTS, "inputs": INPUTS}[role] if _usable(label, config, role)
    )
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--{role}: expected each strategy once, received {', '.join(doubled)} several times")
    refused = [name for name in names if _exists(name, config.bits, role) and not _usable(name, config, role)]
    if refused:
        raise UserError(
            f"--{role}: {', '.join(refused)}: no integer model computes that at {config.bits} bits; leave it out, or "
            "--deployable"
        )
    return names


def _exists(label, bits, role):
    return supports(label.removesuffix(PER_CHANNEL), bits, role)


def _usable(label, config, role):
    name = label.removesuffix(PER_CHANNEL)
    return (deployable if config.deployable else supports)(name, config.bits, role)


def is_deployable(label, bits, role):
    """Whether an integer model computes a strategy exactly, by its name."""
    return deployable(label.removesuffix(PER_CHANNEL), bits, role)


def mixture_for(config, role):
    """The prototype of a role: `Mixed` of the candidates, or the one.

    Raises:
        UserError: see `prototype`; also for a name that is there twice, and with `deployable` for a strategy that no
            integer model computes.
    """
    found = [prototype(label, config.bits, role) for label in names_for(config, role)]
    return found[0] if len(found) == 1 else Mixed(found, config.temperature_start)
