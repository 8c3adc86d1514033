"""A mixture of quantizers of the same tensor, whose coefficients are learned (DQSS)."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import keras
import tensorflow as tf

from tfqnas.errors import NoIntegersError
from tfqnas.quantizers.base import Pass, Quantizer, clone, passing
from tfqnas.quantizers.channels import PER_CHANNEL
from tfqnas.quantizers.registry import name_of
from tfqnas.quantizers.traits import NONE, ROLES, Traits
from tfqnas.quantizers.uniform import mixture


@keras.saving.register_keras_serializable("tfqnas", name="Mixed")
class Mixture(Quantizer):
    """`sum_i a_i * Q_i(x)` with `a = softmax(alpha / temperature)`, a convex combination of candidates (DQSS).

    A layer with a mixture of weights and one of inputs needs a single convolution, which by bilinearity is
    `sum_i a_i sum_j b_j (W_j * A_i)`. The mixture learns `alpha`, which starts with zeros, and the parameters of the
    candidates. `frozen` returns the best candidate alone, and `tfqnas.dqss.freeze` does this in a whole model.

    Candidates with uniform levels share one pass forward and one backward, and keep only `x` (`mixture`).

    Args:
        candidates: at least two prototype quantizers with the same bit width and a common role.
        temperature: initial value of the variable `temperature`, above 0. The mixture approaches its best candidate as
            a schedule lowers it.
    """

    def __init__(
        self, candidates: Iterable[Quantizer | dict[str, Any]], temperature: float = 1.0, **kwargs: Any
    ) -> None:
        prototypes = [clone(candidate) for candidate in candidates]
        _check(prototypes, temperature)
        for name in ("bits", "signed", "narrow_range"):
            kwargs.pop(name, None)  # known from the candidates
        super().__init__(prototypes[0].bits, **kwargs)
        # These names are part of the paths of variables in checkpoints.
        names = [f"{i}_{name_of(q).lower().removesuffix(PER_CHANNEL)}" for i, q in enumerate(prototypes)]
        self.candidates = [clone(candidate, name) for candidate, name in zip(prototypes, names, strict=True)]
        self.start = float(temperature)
        traits = [candidate.traits for candidate in self.candidates]
        common = _common_roles(self.candidates)
        weights, inputs = (getattr(Traits, role) if role in common else NONE for role in ROLES)
        self.traits = Traits(
            weights,
            inputs,
            uniform=False,
            elementwise=all(own.elementwise for own in traits),
            per_channel=any(own.per_channel for own in traits),
            combines=True,
        )

    @property
    def below_zero(self) -> bool:
        return any(candidate.below_zero for candidate in self.candidates)

    @property
    def strategies(self) -> list[str]:
        """The names of the candidates' methods."""
        return [name_of(candidate) for candidate in self.candidates]

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        for candidate in self.candidates:
            candidate.build()
        # The name differs from those of the candidates' parameters, since a frozen candidate takes the path of its
        # mixture. The aggregation is for tf.distribute, as in `add_parameters`.
        self.alpha = self.add_weight(
            name="mixture", shape=(len(self.candidates),), initializer="zeros", aggregation="mean"
        )
        self.temperature = self.add_weight(
            name="temperature", shape=(), initializer=keras.initializers.Constant(self.start), trainable=False
        )
        self.built = True

    @property
    def coefficients(self) -> tf.Tensor:
        """float32 (candidates,), positive with the sum 1."""
        return tf.nn.softmax(tf.convert_to_tensor(self.alpha) / tf.convert_to_tensor(self.temperature))

    @property
    def best(self) -> int:
        """The index of the candidate with the largest coefficient."""
        return int(self.alpha.numpy().argmax())

    def _initialize(self, x: tf.Tensor, one: Pass) -> None:
        for candidate in self.candidates:
            candidate._initialize(x, one)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        coefficients = tf.unstack(self.coefficients)
        grids = [candidate.grid(x, batched) for candidate in self.candidates]
        with passing(None):  # the candidates have been initialised
            others = [
                a * candidate(x, batched=batched)
                for a, grid, candidate in zip(coefficients, grids, self.candidates, strict=True)
                if grid is None
            ]
        shared = [(grid, a) for a, grid in zip(coefficients, grids, strict=True) if grid is not None]
        if shared:
            alike, shares = zip(*shared, strict=True)
            others.append(mixture(x, alike, shares, constant=bool(others)))
        return others[0] if len(others) == 1 else tf.add_n(others)

    def frozen(self, best: int | None = None) -> Quantizer:
        """A separate quantizer with the parameters of one candidate.

        Args:
            best: index of the candidate; None for the one with the largest coefficient.
        """
        place = self.best if best is None else best
        if not 0 <= place < len(self.candidates):
            raise ValueError(f"{self.path}: best: expected 0 to {len(self.candidates) - 1}, received {best!r}")
        candidate = self.candidates[place]
        one = clone(candidate, self.name)
        one.build()
        for source, target in zip(candidate.variables, one.variables, strict=True):
            target.assign(source)
        return one

    def with_bits(self, bits: int) -> Quantizer:
        """The prototype with another bit width and the candidates that exist at it.

        Candidates that integer models compute only at the old bit width are left out, as long as others remain.
        """
        kept = [c for c in self.candidates if any(c.traits.supports(bits, role) for role in self.roles)]

        def stays(traits: Traits) -> bool:
            return any(traits.deployable(bits, r) or not traits.deployable(self.bits, r) for r in self.roles)

        kept = [c for c in kept if stays(c.traits)] or kept
        if not kept:
            raise ValueError(f"candidates: none of {', '.join(self.strategies)} exists at {bits!r} bits")
        if len(kept) == 1:
            return kept[0].with_bits(bits)
        return type(self)([candidate.with_bits(bits) for candidate in kept], self.start, name=self.name)

    def along(self, axis: int) -> "Mixture":
        return type(self)([candidate.along(axis) for candidate in self.candidates], self.start, name=self.name)

    def to_integers(self, x: tf.Tensor) -> NoReturn:
        raise NoIntegersError("a mixture of quantizers: tfqnas.dqss.freeze(model) leaves the best of them")

    def halved(self) -> NoReturn:
        raise TypeError(f"{self.name}: bits are inherited by one quantizer, not by a mixture: freeze(model) first")

    @property
    def decided(self) -> bool:
        return all(candidate.decided for candidate in self.candidates)

    @property
    def is_set(self) -> bool:
        return all(candidate.is_set for candidate in self.candidates)

    @property
    def problem(self) -> str | None:
        for candidate, name in zip(self.candidates, self.strategies, strict=True):
            if candidate.problem:
                return f"candidate {name}: {candidate.problem}"
        return None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("bits", "signed", "narrow_range"):
            config.pop(name)
        candidates = [keras.saving.serialize_keras_object(candidate) for candidate in self.candidates]
        for candidate in candidates:
            candidate.pop("build_config", None)  # a configuration is the same before and after building
        return {**config, "candidates": candidates, "temperature": self.start}


# This name is also part of the paths of weights in .keras files.
Mixture.__name__ = "Mixed"


def _common_roles(candidates: Sequence[Quantizer]) -> tuple[str, ...]:
    return tuple(role for role in candidates[0].roles if all(role in candidate.roles for candidate in candidates))


def _check(candidates: Sequence[Quantizer], temperature: float) -> None:
    if len(candidates) < 2 or None in candidates:
        raise ValueError(f"candidates: expected at least two quantizers, received {len(candidates)}")
    for candidate in candidates:
        if candidate.traits.combines:
            raise ValueError(f"candidates: expected single methods, received {type(candidate).__qualname__}")
    if len({candidate.bits for candidate in candidates}) > 1:
        received = ", ".join(f"{name_of(c)} {c.bits}" for c in candidates)
        raise ValueError(f"candidates: expected one bit width, received {received}")
    if not _common_roles(candidates):
        received = ", ".join(f"{name_of(c)} of {' and '.join(c.roles)}" for c in candidates)
        raise ValueError(f"candidates: expected a role that all of them have, received {received}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, received {temperature!r}")
