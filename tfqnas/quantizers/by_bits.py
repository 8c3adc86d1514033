"""A quantizer for each bit width, one of which is chosen at call time by a tensor."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfqnas.errors import NoIntegersError
from tfqnas.quantizers.base import Codes, Quantizer, clone, integer_range

# As a bit width: not quantized.
FLOAT = 32


@keras.saving.register_keras_serializable("tfqnas")
class ByBits(Quantizer):
    """The quantizers of several bit widths as one: parameters of each, and a call says which (QFA).

    The parameters are stacked and the integer range is a tensor: one graph without a branch serves every bit width.
    In a depthwise layer there are parameters for each kernel size as well. With 32 among the choices what is called
    with 32 bits stays as it is.

    Args:
        prototype: `Quantizer` with `parameters` and `compute`, of any bit width.
        choices: bit widths, ascending.
        sizes: kernel sizes that have parameters of their own, as `for_kernel_sizes` sets them; none: they share them.
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
            kwargs.pop(name, None)  # follow from the others
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
            bits: int32 scalar or Python int; None: the highest below 32.
            size: the kernel size, where there are parameters for each; None: the largest.
            options: those of the prototype's `compute`.
        """
        if isinstance(bits, int) and bits not in self.choices:
            raise ValueError(f"{self.name}: bits: expected one of {self.choices}, received {bits}")
        bits = self.bits if bits is None else bits

        if self.traits.observes and "statistics" not in options:
            options |= {"statistics": self.observe(x), "snap": False}
        parameters, codes = self._chosen(bits, size)  # variables are read here: gradients read none in a conditional

        if FLOAT not in self.choices or (isinstance(bits, int) and bits != FLOAT):
            return self.prototype.compute(x, parameters, codes, batched, **options)

        def quantized() -> tf.Tensor:
            # Copies inside of the branch: a conditional in a conditional has no gradient to what lies further out.
            outer = parameters, codes, options
            inner = tf.nest.map_structure(lambda v: tf.identity(v) if tf.is_tensor(v) else v, outer)
            return self.prototype.compute(tf.identity(x), inner[0], inner[1], batched, **inner[2])

        return tf.cond(tf.equal(bits, FLOAT), lambda: tf.identity(x), quantized)

    def _chosen(self, bits: tf.Tensor | int, size: tf.Tensor | int | None) -> tuple[dict[str, tf.Tensor], Codes]:
        """`(parameters, Codes)` of a bit width: sums with a mask, since a gather would have a sparse gradient."""
        mask = tf.cast(tf.equal(self._quantized, bits), tf.float32)
        qn, qp = tf.unstack(tf.linalg.matvec(self._ranges, mask, transpose_a=True))
        weights = mask
        if self.sizes:
            of_size = tf.cast(tf.equal(self.sizes, max(self.sizes) if size is None else size), tf.float32)
            weights = mask[:, tf.newaxis] * of_size
        names = type(self.prototype).parameters()
        # A bit width's parameters that are not set (NaN) must not spoil the others' sums: `where`, not a product.
        chosen = {n: tf.reduce_sum(tf.where(weights > 0, tf.convert_to_tensor(getattr(self, n)), 0.0)) for n in names}
        return chosen, Codes(tf.cast(bits, tf.int32), qn, qp, bool(self.signed), self.narrow_range)

    def static(self, bits: int, size: tf.Tensor | int | None = None, statistics: np.ndarray | None = None) -> Quantizer:
        """The quantizer of one bit width by itself, with its parameters.

        Args:
            bits: one of the choices below 32. size: see `fake_quantize`.
            statistics: float32 (2, 1), of a quantizer that observes.
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
