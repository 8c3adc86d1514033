"""A quantizer with parameters for each bit width, which a tensor chooses at call time."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfqnas.errors import NoIntegersError
from tfqnas.quantizers.base import Codes, Quantizer, clone, integer_range

# The bit width that stands for no quantization.
FLOAT = 32


@keras.saving.register_keras_serializable("tfqnas")
class ByBits(Quantizer):
    """The quantizers of several bit widths as one. Each bit width has parameters, and a call chooses one (QFA).

    The parameters are stacked and the integer range is a tensor, so that one graph without a branch serves every bit
    width. In a depthwise layer each kernel size also has its parameters. A call with 32 bits, if that is a choice, does
    not quantize.

    Args:
        prototype: `Quantizer` with `parameters` and `compute`, of any bit width.
        choices: bit widths, ascending.
        sizes: kernel sizes with parameters of their own, set by `for_kernel_sizes`; empty if they share parameters.
    """

    def __init__(
        self, prototype: Quantizer, choices: Iterable[int] = (2, 3, 4), sizes: Iterable[int] = (), **kwargs: Any
    ) -> None:
        prototype = clone(prototype)
        choices = tuple(choices)
        if not type(prototype).parameters():
            raise TypeError(f"{type(prototype).__name__}: cannot be chosen by bit width, it has nothing to be stacked")
        quantized = tuple(b for b in choices if b != FLOAT)
        if not quantized or list(choices) != sorted(set(choices)):
            raise ValueError(f"choices: expected ascending bit widths, 32 the last if at all, received {choices}")
        if prototype.signed is None:
            raise ValueError("prototype: expected signed=True or False, one sign serves all bit widths, received None")
        for name in ("bits", "signed", "narrow_range"):
            kwargs.pop(name, None)  # known from the other arguments
        super().__init__(quantized[-1], prototype.signed, prototype.narrow_range, **kwargs)
        self.prototype, self.choices, self.sizes = prototype, choices, tuple(sizes)
        self.traits = dataclasses.replace(prototype.traits, whole=True, elementwise=False, combines=True)
        ranges = [integer_range(b, prototype.signed, self.narrow_range) for b in quantized]
        self._quantized, self._ranges = quantized, np.array(ranges, np.float32)

    @property
    def snapped(self) -> bool:
        return self.prototype.snapped

    @property
    def statistics_size(self) -> int:
        return self.prototype.statistics_size

    def observe(self, x: tf.Tensor) -> tf.Tensor:
        return self.prototype.observe(x)

    def pooled(self, statistics: np.ndarray) -> np.ndarray:
        return self.prototype.pooled(statistics)

    def for_kernel_sizes(self, sizes: tuple[int, ...]) -> "ByBits":
        if len(sizes) < 2:
            return self
        return type(self)(self.prototype, self.choices, sizes, name=self.name)

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        shape = (len(self._quantized), *([len(self.sizes)] if self.sizes else []))
        self.add_parameters(type(self.prototype).parameters(), shape)
        self.built = True

    def set_from(self, x: tf.Tensor) -> None:
        for place, bits in enumerate(self._quantized):
            one = self.prototype.with_bits(bits)
            one.build()
            one.set_from(x)
            for name in type(one).parameters():
                stacked, value = getattr(self, name), getattr(one, name).numpy()
                rows = stacked.numpy()
                rows[place] = value
                stacked.assign(rows)

    def fake_quantize(
        self,
        x: tf.Tensor,
        batched: bool,
        bits: tf.Tensor | int | None = None,
        size: tf.Tensor | int | None = None,
        **options: Any,
    ) -> tf.Tensor:
        """Quantizes with one of the bit widths.

        Args:
            bits: int32 scalar or Python int; None for the highest below 32.
            size: the kernel size, if each has parameters; None for the largest.
            options: further arguments of the prototype's `compute`.
        """
        if isinstance(bits, int) and bits not in self.choices:
            raise ValueError(f"{self.name}: bits: expected one of {self.choices}, received {bits}")
        bits = self.bits if bits is None else bits

        if self.traits.observes and "statistics" not in options:
            options |= {"statistics": self.observe(x), "snap": False}
        parameters, codes = self._chosen(bits, size)  # read here, since gradients in a conditional read no variables

        if FLOAT not in self.choices or (isinstance(bits, int) and bits != FLOAT):
            return self.prototype.compute(x, parameters, codes, batched, **options)

        def quantized() -> tf.Tensor:
            # Copies inside the branch, since a nested conditional has no gradient to tensors of the outer graph.
            outer = parameters, codes, options
            inner = tf.nest.map_structure(lambda v: tf.identity(v) if tf.is_tensor(v) else v, outer)
            return self.prototype.compute(tf.identity(x), inner[0], inner[1], batched, **inner[2])

        return tf.cond(tf.equal(bits, FLOAT), lambda: tf.identity(x), quantized)

    def _chosen(self, bits: tf.Tensor | int, size: tf.Tensor | int | None) -> tuple[dict[str, tf.Tensor], Codes]:
        """`(parameters, Codes)` of a bit width, as masked sums since a gather would have a sparse gradient."""
        mask = tf.cast(tf.equal(self._quantized, bits), tf.float32)
        qn, qp = tf.unstack(tf.linalg.matvec(self._ranges, mask, transpose_a=True))
        weights = mask
        if self.sizes:
            of_size = tf.cast(tf.equal(self.sizes, max(self.sizes) if size is None else size), tf.float32)
            weights = mask[:, tf.newaxis] * of_size
        names = type(self.prototype).parameters()
        # `where` rather than a product, since unset parameters (NaN) of other bit widths must not reach the sum.
        chosen = {n: tf.reduce_sum(tf.where(weights > 0, tf.convert_to_tensor(getattr(self, n)), 0.0)) for n in names}
        return chosen, Codes(tf.cast(bits, tf.int32), qn, qp, bool(self.signed), self.narrow_range)

    def static(self, bits: int, size: tf.Tensor | int | None = None, statistics: np.ndarray | None = None) -> Quantizer:
        """A separate quantizer with the parameters of one bit width.

        Args:
            bits: one of the choices below 32.
            size: see `fake_quantize`.
            statistics: range of batches, float32 (2, 1), for a quantizer that observes.
        """
        one = self.prototype.with_bits(bits)
        one.build()
        parameters, _ = self._chosen(bits, size)
        for name, value in parameters.items():
            getattr(one, name).assign(value)
        if self.traits.observes:
            values = one.with_statistics([v.numpy() for v in one.variables], statistics)
            for variable, value in zip(one.variables, values, strict=True):
                variable.assign(value)
        return one

    def to_integers(self, x: tf.Tensor) -> NoReturn:
        raise NoIntegersError(f"{self.name}: integers are those of one of its bit widths, see `static`")

    def halved(self) -> NoReturn:
        raise TypeError(f"{self.name}: bits are no longer inherited where a supernet has several bit widths")

    @property
    def problem(self) -> str | None:
        names = type(self.prototype).parameters()
        if any(np.isnan(getattr(self, name).numpy()).any() for name in names):
            return "parameters of a bit width are not set: call tfqnas.initialize(model, images) after loading weights"
        return None

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("bits", "signed", "narrow_range"):
            config.pop(name)
        prototype = keras.saving.serialize_keras_object(self.prototype)
        return {**config, "prototype": prototype, "choices": list(self.choices), "sizes": list(self.sizes)}
