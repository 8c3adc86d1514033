"""Handing weights down: from floating point to a quantized supernet, and from K to fewer bits."""

from collections.abc import Iterable

import keras

from tfqnas.errors import UserError
from tfqnas.supernet import Supernet


def copy_weights(source: Supernet, target: Supernet) -> None:
    """Copies every weight but those of quantizers, by its path in the network.

    Raises:
        UserError: naming the weight that is missing or has another shape.
    """
    own = {id(v) for quantizer in target.quantizers for v in quantizer.variables}
    _copy(source, [v for v in target.variables if id(v) not in own])


def copy_all(source: Supernet, target: Supernet) -> None:
    """The same with the parameters of quantizers."""
    _copy(source, target.variables)


def _copy(source: Supernet, variables: Iterable[keras.Variable]) -> None:
    ours = {v.path: v for v in source.variables}
    for variable in variables:
        value = ours.get(variable.path)
        if value is None or value.shape != variable.shape:
            found = "no such weight" if value is None else f"shape {tuple(value.shape)}"
            raise UserError(f"{variable.path}: expected shape {tuple(variable.shape)}, received {found}")
        variable.assign(value)


def inherit(supernet: Supernet, bits: int) -> Supernet:
    """Bit inheritance (OQA, section 3.4): a new supernet of `bits` with the weights and doubled steps.

    The old supernet stays whole: it is the teacher. BatchNorm statistics belong to no supernet here and are
    estimated anew by `recalibrate` wherever they are needed.

    Args:
        supernet: `Supernet` with initialised quantizers. bits: fewer than it has.

    Returns:
        `Supernet`.
    """
    own = supernet.bits
    if not isinstance(own, int) or not 2 <= bits < own:
        raise UserError(f"inherit: expected fewer than the supernet's {own} bits, received {bits}")
    halvings = own - bits
    prototypes = {}
    for role in ("weights", "inputs"):
        prototype = supernet.settings[role]
        if prototype is not None:
            prototypes[role] = type(prototype).from_config(
                {**prototype.get_config(), "bits": prototype.bits - halvings}
            )
    child = supernet.like(**prototypes)
    copy_weights(supernet, child)
    for old, new in zip(supernet.quantizers, child.quantizers, strict=True):
        for _ in range(halvings):
            old = old.halved()
        for source, target in zip(old.variables, new.variables, strict=True):
            target.assign(source)
    return child
