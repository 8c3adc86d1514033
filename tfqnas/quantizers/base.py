"""What every quantizer is: a float tensor in, its fake-quantized version out."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import keras
import numpy as np
import tensorflow as tf

from tfqnas.quantizers.traits import Traits
from tfqnas.quantizers.uniform import UniformGrid

_INITIALIZING: contextvars.ContextVar[Pass | None] = contextvars.ContextVar("tfqnas_initializing", default=None)

# The roles of quantizers by the arguments of layers.
_ROLE_OF_ARGUMENT = {"weight_quantizer": "weights", "input_quantizer": "inputs"}


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
    """One pass of initialisation: a quantizer that it calls several times sees that they belong together."""

    missing_only: bool


def initializing(missing_only: bool = False) -> contextlib.AbstractContextManager[None]:
    """While open, every quantizer that is called sets its parameters from the tensor it is given.

    An explicit, eager pass and not a flag in a graph: a flag that starts with the wrong value is an
    initialisation that silently never runs. Use it through `tfqnas.initialize`.

    Args:
        missing_only: leave quantizers alone that are set already.
    """
    return passing(Pass(missing_only))


@contextlib.contextmanager
def passing(one: Pass | None) -> Iterator[None]:
    """While open, `one` is the pass of initialisation, or there is none."""
    token = _INITIALIZING.set(one)
    try:
        yield
    finally:
        _INITIALIZING.reset(token)


def integer_range(bits: int, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """Returns `(Qn, Qp)`: `[-2^(b-1), 2^(b-1)-1]` signed, `[0, 2^b-1]` unsigned (OQA, section 3.2).

    `narrow_range` drops the lowest signed code, so that the range is symmetric: a BatchNorm with a
    negative gamma, folded at export, then still fits into `bits` bits.
    """
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits: expected a whole number from 2 to 16, received {bits!r}")
    if not isinstance(signed, bool):
        raise ValueError(f"signed: expected True or False, received {signed!r}")
    if narrow_range and not signed:
        raise ValueError("narrow_range: only a signed range has a lowest code to drop, received signed=False")
    if signed:
        return -(2 ** (bits - 1)) + int(narrow_range), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


class Codes(NamedTuple):
    """An integer range: numbers, or, where a bit width is given at call time, tensors: int32 `bits`, float32 ends."""

    bits: tf.Tensor | int
    qn: tf.Tensor | int
    qp: tf.Tensor | int
    signed: bool
    narrow: bool


class Again:
    """A tensor that gradients need, computed anew for them instead of kept from the forward pass.

    Kept, the quantized inputs of convolutions would add half to the memory of training: the originals are
    kept too. The gradients of a convolution and of the quantizer before it need it one after the other: the
    first computes it, the second takes it over.

    Args:
        compute: function of nothing that returns the tensor, of tensors of the forward pass.
    """

    def __init__(self, compute: Callable[[], tf.Tensor]) -> None:
        self._compute = compute
        self._value = None

    def __call__(self, upstream: tf.Tensor) -> tf.Tensor:
        """The tensor, computed when the gradient `upstream` is there."""
        value, self._value = self._value, None
        if value is not None and (tf.executing_eagerly() or value.graph is upstream.graph):
            return value
        # Without the dependency graph optimisation would merge it with the forward pass, and keep that.
        with tf.control_dependencies([upstream]):
            self._value = self._compute()
        return self._value


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """What a layer tells its quantizer beside the tensor. A method takes those that it knows, None is not given.

    Args:
        again: what the quantizer's `again` returned for the same tensor.
        bits: the bit width, int32 scalar or int (`ByBits`).
        size: the kernel size, int32 scalar or int (`ByBits`).
        statistics: the range of the batches, float32 (2, 1) (`BatchQuant`).
        snap: whether the zero point is rounded (`BatchQuant`, `LSQPlus`).
    """

    again: Again | None = None
    bits: tf.Tensor | int | None = None
    size: tf.Tensor | int | None = None
    statistics: tf.Tensor | None = None
    snap: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Those that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


_NOTHING = Options()


class Quantizer(keras.layers.Layer):
    """A thin, serialisable wrapper around the mathematics of one quantization method.

    A subclass implements `set_from`, `fake_quantize` and, where it has any, `parameters`, and says in `traits` what it
    can do. As an argument of a layer or of a supernet a quantizer is a prototype: every layer makes its own by
    `clone`, since no quantizer object may belong to two layers. One that `ByBits` shall choose by bit width also
    implements `parameters` and `compute`.

    Args:
        bits: bit width, 2 to 16.
        signed: whether the integer range reaches below zero; None: initialisation decides, from the tensor.
        narrow_range: drop the lowest code of a signed range.
    """

    traits = Traits()

    def __init__(self, bits: int, signed: bool | None = True, narrow_range: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # While the sign is open, the signed range stands in; the parameters are not set, so the output is NaN.
        self.qn, self.qp = integer_range(bits, True if signed is None else signed, narrow_range)
        self.bits = bits
        self.signed = signed
        self.narrow_range = narrow_range
        self._last_pass: Pass | None = None

    def decide(self, signed: bool) -> None:
        """Fixes whether the integer range reaches below zero."""
        self.narrow_range = self.narrow_range and signed
        self.qn, self.qp = integer_range(self.bits, signed, self.narrow_range)
        self.signed = signed

    @property
    def strategy(self) -> str | None:
        """The name by which settings know the method where it follows from arguments, else None."""
        return None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that this one can have."""
        return self.traits.roles

    @property
    def storage_bits(self) -> int:
        """Bit width of a signed or unsigned integer that holds the codes of `to_integers`."""
        return self.traits.code_bits(self.bits, self.roles[0])

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        """Names of what is learned, each with keyword arguments of its `add_weight`; NaN until it is set."""
        return {}

    def add_parameters(self, parameters: Mapping[str, dict[str, Any]], shape: tuple[int, ...] = ()) -> None:
        """Makes a variable of this shape for each of `parameters`, as an attribute of its name."""
        for name, settings in parameters.items():
            # A constraint is assigned inside a replica, which tf.distribute allows only with an aggregation.
            aggregation = "mean" if settings.get("trainable", True) else "none"
            own = {"initializer": keras.initializers.Constant(float("nan")), "aggregation": aggregation, **settings}
            setattr(self, name, self.add_weight(name=name, shape=shape, **own))

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.add_parameters(type(self).parameters())
        self.built = True

    @property
    def codes(self) -> Codes:
        """The integer range, `Codes` of numbers."""
        return Codes(self.bits, self.qn, self.qp, self.qn < 0, self.narrow_range)

    def __call__(self, x: tf.Tensor, batched: bool = False, training: bool | None = None, **options: Any) -> tf.Tensor:
        """Fake-quantizes `x` (float32, any shape).

        Args:
            batched: whether its first axis counts examples.
            training: see `keras.layers.Layer`.
            options: fields of `Options`.
        """
        # As one record: Keras refuses tensors and other objects among the keyword arguments of one call.
        context = {} if training is None else {"training": training}
        return super().__call__(x, batched=batched, options=Options(**options), **context)

    def call(self, x: tf.Tensor, batched: bool = False, options: Options = _NOTHING) -> tf.Tensor:
        one = _INITIALIZING.get()
        if one:
            if not tf.executing_eagerly():
                raise RuntimeError(f"{self.path}: quantizers are initialised eagerly, outside of tf.function")
            self._initialize(x, one)
        if not self.decided and not tf.executing_eagerly():  # a trace would keep what is not decided
            raise RuntimeError(f"{self.path}: call tfqnas.initialize(model, images) before training or evaluation")
        return self.fake_quantize(x, batched, **options.given)

    def _initialize(self, x: tf.Tensor, initializing: Pass) -> None:
        again = self._last_pass is initializing
        if initializing.missing_only and self.is_set and not again:
            return
        self._last_pass = initializing
        if self.signed is None:
            self.decide(self._better_sign(x))
        if again:
            self.widen(x)
        else:
            self.set_from(x)

    def _better_sign(self, x: tf.Tensor) -> bool:
        """Signed unless nothing lies below zero, or so little that finer steps are worth more (h-swish)."""
        if tf.reduce_min(x) >= 0:
            return False

        def error(signed: bool) -> float:
            trial = type(self).from_config({**self.get_config(), "signed": signed, "narrow_range": False})
            trial.build()
            trial.set_from(x)
            return float(tf.reduce_mean(tf.square(trial.fake_quantize(x, batched=True) - x)))

        return error(True) < error(False)

    @property
    def decided(self) -> bool:
        """Whether it is known if the codes reach below zero; else initialisation decides."""
        return self.signed is not None

    @property
    def below_zero(self) -> bool:
        """Whether some of its codes stand for values below zero, as far as that is known."""
        return self.signed is not False

    @property
    def is_set(self) -> bool:
        """Whether it has been initialised, or loaded from what was."""
        return self.decided and not any(np.isnan(v.numpy()).any() for v in self.variables)

    def set_from(self, x: tf.Tensor) -> None:
        """Sets the parameters from the tensor `x` that is to be quantized."""
        raise NotImplementedError

    def widen(self, x: tf.Tensor) -> None:
        """Takes account of a second tensor that the same pass of initialisation brings."""
        self.set_from(x)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        """Returns `x` on the grid of this quantizer, same shape and dtype."""
        raise NotImplementedError

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid | None:
        """None, or the `UniformGrid` whose `rounded` is `fake_quantize(x)`: mixtures compute those in one pass."""
        return None

    @staticmethod
    def compute(x: tf.Tensor, parameters: Mapping[str, tf.Tensor], codes: Codes, batched: bool) -> tf.Tensor:
        """`fake_quantize` as a function of the parameters, a dict of tensors by name, and of the `Codes`."""
        raise NotImplementedError

    def again(self, x: tf.Tensor) -> Again | None:
        """None, or the `Again` that computes what a call with `x` returns; its `fake_quantize` then takes it.

        Variables are read here and not when it computes: gradients may read none under `tf.cond`.
        """
        return None

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """Returns `(q, scale, zero_point)`: int32 codes with `fake_quantize(x) = (q - zero_point) * scale`.

        Raises:
            NoIntegersError: the values are no integers times one step; the exporter says so with the layer's name.
        """
        raise NotImplementedError

    def halved(self) -> Quantizer:
        """The quantizer of one bit less that inherits this one's parameters (bit inheritance): here the same range."""
        quantizer = self.with_bits(self.bits - 1)
        if self.built:
            quantizer.build()
            for source, target in zip(self.variables, quantizer.variables, strict=True):
                target.assign(source)
        return quantizer

    def with_bits(self, bits: int) -> Quantizer:
        """The prototype with another bit width and nothing else changed."""
        if not any(self.traits.supports(bits, role) for role in self.roles):
            self.traits.check(type(self).__name__, bits, self.roles[0])
        return type(self).from_config({**self.get_config(), "bits": bits})

    def for_sizes(self, sizes: Mapping[int, tuple[int, ...]]) -> Quantizer:
        """The prototype for a tensor of an elastic layer.

        Args:
            sizes: `{axis: sizes}` of the axes that may have several sizes. A quantizer whose parameters are
                shared by all of them, as most are, is its own prototype.
        """
        return self

    def for_kernel_sizes(self, sizes: tuple[int, ...]) -> Quantizer:
        """The prototype for a depthwise layer with these kernel sizes: itself, where they share the parameters."""
        return self

    def along(self, axis: int) -> Quantizer:
        """The prototype for kernels whose output channels lie along `axis`: itself, where it has one scale."""
        config = self.get_config()
        if config.get("axis") in (None, axis):
            return self
        unknown = {"channels": None} if "channels" in config else {}  # another axis has another number of them
        return type(self).from_config({**config, "axis": axis, **unknown})

    def values_for(self, shape: Sequence[int | None]) -> list[np.ndarray]:
        """The values of `variables` that quantize a tensor of this shape, in their order."""
        return [variable.numpy() for variable in self.variables]

    @property
    def problem(self) -> str | None:
        """None, or what is wrong with the parameters in words (not initialised, collapsed)."""
        if not self.is_set:
            return "the range is not set: call tfqnas.initialize(model, images) after loading weights"
        return None

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...], *args: Any, **kwargs: Any
    ) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "bits": self.bits, "signed": self.signed, "narrow_range": self.narrow_range}


@overload
def clone(quantizer: None, name: str | None = None) -> None: ...
@overload
def clone(quantizer: Quantizer | dict[str, Any], name: str | None = None) -> Quantizer: ...
@overload
def clone(quantizer: Quantizer | dict[str, Any] | None, name: str | None = None) -> Quantizer | None: ...
def clone(quantizer: Quantizer | dict[str, Any] | None, name: str | None = None) -> Quantizer | None:
    """Returns a new, unbuilt quantizer with the same configuration; None stays None (no quantization).

    Raises:
        ValueError: if `name` is a layer's argument for weights or inputs, and the quantizer is not for those.
    """
    if quantizer is None:
        return None
    if isinstance(quantizer, dict):  # as it stands in the configuration of a saved layer
        quantizer = keras.saving.deserialize_keras_object(quantizer)
    if not isinstance(quantizer, Quantizer):
        raise TypeError(f"expected a tfqnas Quantizer or None, received {type(quantizer).__name__}")
    role = _ROLE_OF_ARGUMENT.get(name or "")
    if role and role not in quantizer.roles:
        raise ValueError(
            f"{name}: expected a quantizer of {role}, received {type(quantizer).__qualname__} of "
            f"{' and '.join(quantizer.roles)}"
        )
    return type(quantizer).from_config({**quantizer.get_config(), "name": name or quantizer.name})


def quantizers_of(model: keras.Model) -> list[Quantizer]:
    """All quantizers of a Keras model, in the order of its layers."""
    return [quantizer for layer in model.layers for quantizer in getattr(layer, "quantizers", ())]
