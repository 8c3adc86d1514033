"""A quantizer with separate parameters for each size of an elastic tensor, instead of the shared step of OQAT."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.base import Quantizer, clone


@keras.saving.register_keras_serializable("tfqnas")
class BySize(Quantizer):
    """Separate parameters for each kernel size and width of an elastic layer, chosen by the shape of the tensor.

    All of them start with the parameters of the largest size. This serves a comparison: OQAT shares one step among all
    sizes, and `BySize(LSQ(...))` does not.

    Args:
        prototype: `Quantizer` with `parameters` and `compute`.
        sizes: pairs of an axis and its sizes, set by `for_sizes`; empty for one set of parameters.
    """

    def __init__(self, prototype: Quantizer, sizes: Iterable[tuple[int, Sequence[int]]] = (), **kwargs: Any) -> None:
        prototype = clone(prototype)
        if not type(prototype).parameters() or prototype.traits.observes:
            raise TypeError(f"{type(prototype).__name__}: expected a quantizer whose parameters alone set its range")
        if not prototype.decided:
            raise ValueError("prototype: expected signed=True or False, one sign serves all sizes, received None")
        for name in ("bits", "signed", "narrow_range"):
            kwargs.pop(name, None)  # known from the prototype
        super().__init__(prototype.bits, prototype.signed, prototype.narrow_range, **kwargs)
        self.prototype = prototype
        self.sizes = tuple((axis, tuple(values)) for axis, values in sizes)
        self.traits = dataclasses.replace(prototype.traits, elementwise=False, combines=True)

    def for_sizes(self, sizes: Mapping[int, tuple[int, ...]]) -> Quantizer:
        several = [(axis, values) for axis, values in sorted(sizes.items()) if len(values) > 1]
        return type(self)(self.prototype, several, name=self.name) if several else clone(self.prototype, self.name)

    def with_bits(self, bits: int) -> Quantizer:
        return type(self)(self.prototype.with_bits(bits), self.sizes, name=self.name)

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.add_parameters(type(self.prototype).parameters(), self._shape)
        self.built = True

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(len(values) for _, values in self.sizes)

    def set_from(self, x: tf.Tensor) -> None:
        one = clone(self.prototype, self.name)
        one.build()
        one.set_from(x)
        for name in type(one).parameters():
            stacked = getattr(self, name)
            stacked.assign(tf.fill(stacked.shape, tf.convert_to_tensor(getattr(one, name))))

    def fake_quantize(self, x: tf.Tensor, batched: bool, **options: Any) -> tf.Tensor:
        return self.prototype.compute(x, self._chosen(tf.shape(x)), self.codes, batched, **options)

    def _chosen(self, shape: tf.Tensor | Sequence[int | None]) -> dict[str, tf.Tensor]:
        """The parameters for a tensor of this shape, as masked sums since a gather would have a sparse gradient."""
        chosen = {name: tf.convert_to_tensor(getattr(self, name)) for name in type(self.prototype).parameters()}
        for axis, values in reversed(self.sizes):
            mask = tf.cast(tf.equal(values, shape[axis]), tf.float32)
            chosen = {name: tf.reduce_sum(stacked * mask, axis=-1) for name, stacked in chosen.items()}
        return chosen

    def static(self, shape: Sequence[int | None]) -> Quantizer:
        """A separate quantizer with the parameters for tensors of one shape."""
        one = clone(self.prototype, self.name)
        one.build()
        for name, value in self._chosen(shape).items():
            getattr(one, name).assign(value)
        return one

    def values_for(self, shape: Sequence[int | None]) -> list[np.ndarray]:
        return self.static(shape).values_for(shape)

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        return self.static(x.shape).to_integers(x)

    def _each(self) -> Iterator[tuple[tuple[int, ...], Quantizer]]:
        """`(index, quantizer)` for all sets of parameters, with one quantizer that takes each set in turn."""
        one = clone(self.prototype, self.name)
        one.build()
        for place in np.ndindex(self._shape):
            for name in type(one).parameters():
                getattr(one, name).assign(np.array(getattr(self, name))[place])
            yield place, one

    def halved(self) -> Quantizer:
        """The quantizer with one bit less, where each set of parameters inherits as the prototype's does."""
        quantizer = self.with_bits(self.bits - 1)
        if self.built:
            quantizer.build()
            for place, one in self._each():
                half = one.halved()
                for name in type(one).parameters():
                    stacked = np.array(getattr(quantizer, name))
                    stacked[place] = getattr(half, name).numpy()
                    getattr(quantizer, name).assign(stacked)
        return quantizer

    @property
    def problem(self) -> str | None:
        return next((one.problem for _, one in self._each() if one.problem), None)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("bits", "signed", "narrow_range"):
            config.pop(name)
        sizes = [[axis, list(values)] for axis, values in self.sizes]
        return {**config, "prototype": keras.saving.serialize_keras_object(self.prototype), "sizes": sizes}
