"""Passes weights on, from a float supernet to a quantized one and from more bits to fewer bits."""

from collections.abc import Iterable

import keras

from tfqnas.errors import UserError
from tfqnas.supernet import Supernet


def copy_weights(source: Supernet, target: Supernet) -> None:
    """Copies all weights by their path in the network, except the parameters of quantizers.

    Raises:
        UserError: a weight is missing or has another shape. The message names it.
    """
    own = {id(v) for quantizer in target.quantizers for v in quantizer.variables}
    _copy(source, [v for v in target.variables if id(v) not in own])


def copy_all(source: Supernet, target: Supernet) -> None:
    """Copies all weights by their path in the network, including the parameters of quantizers."""
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
    """Bit inheritance (OQA, section 3.4): a new supernet of fewer bits with the same weights and doubled steps.

    The old supernet, the teacher, does not change. BatchNorm statistics are not part of a supernet; `recalibrate`
    estimates them where they are needed.

    Args:
        supernet: `Supernet` with initialised quantizers.
        bits: bit width of the new supernet; each bit less doubles the steps.

    Raises:
        UserError: `bits` is not from 2 to one less than the supernet has.
    """
    own = supernet.bits
    if not isinstance(own, int) or not 2 <= bits < own:
        raise UserError(f"inherit: expected fewer than the supernet's {own} bits, received {bits}")
    halvings = own - bits
    prototypes = {}
    for role in ("weights", "inputs"):
        prototype = supernet.settings[role]
        if prototype is not None:
            prototypes[role] = prototype.with_bits(prototype.bits - halvings)
    child = supernet.like(**prototypes)
    copy_weights(supernet, child)
    for old, new in zip(supernet.quantizers, child.quantizers, strict=True):
        for _ in range(halvings):
            old = old.halved()
        for source, target in zip(old.variables, new.variables, strict=True):
            target.assign(source)
    return child
