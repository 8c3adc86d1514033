"""The base class of quantizers, which turn a float tensor into its fake-quantized version."""

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

# The roles of quantizers by argument of a layer.
_ROLE_OF_ARGUMENT = {"weight_quantizer": "weights", "input_quantizer": "inputs"}


@dataclasses.dataclass(frozen=True, eq=False)
class Pass:
    """One pass of initialisation, by which a quantizer recognises that several calls belong together."""

    missing_only: bool


def initializing(missing_only: bool = False) -> contextlib.AbstractContextManager[None]:
    """A context in which each called quantizer sets its parameters from its tensor; used by `tfqnas.initialize`.

    This is an explicit, eager pass rather than a flag in a graph, since with a wrong flag the initialisation would
    silently never run.

    Args:
        missing_only: whether quantizers that are already set keep their parameters.
    """
    return passing(Pass(missing_only))


@contextlib.contextmanager
def passing(one: Pass | None) -> Iterator[None]:
    """A context in which `one` is the pass of initialisation; None for none."""
    token = _INITIALIZING.set(one)
    try:
        yield
    finally:
        _INITIALIZING.reset(token)


def integer_range(bits: int, signed: bool, narrow_range: bool = False) -> tuple[int, int]:
    """`(Qn, Qp)`, which is `[-2^(b-1), 2^(b-1)-1]` if signed, else `[0, 2^b-1]` (OQA, section 3.2).

    `narrow_range` drops the lowest signed code, so that the range is symmetric. Codes then still fit into `bits` bits
    when export folds a BatchNorm with a negative gamma.
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
    """An integer range of numbers or, if the bit width is a tensor at call time, of int32 `bits` and float32 ends."""

    bits: tf.Tensor | int
    qn: tf.Tensor | int
    qp: tf.Tensor | int
    signed: bool
    narrow: bool


class Again:
    """A tensor that is computed again for gradients instead of kept from the forward pass.

    Keeping the quantized inputs of convolutions beside the originals would add half to the memory of training. The
    gradient of a convolution needs the tensor first and computes it. The gradient of its quantizer then takes it over.

    Args:
        compute: function without arguments that returns the tensor, from tensors of the forward pass.
    """

    def __init__(self, compute: Callable[[], tf.Tensor]) -> None:
        self._compute = compute
        self._value = None

    def __call__(self, upstream: tf.Tensor) -> tf.Tensor:
        """The tensor, computed after the gradient `upstream`."""
        value, self._value = self._value, None
        if value is not None and (tf.executing_eagerly() or value.graph is upstream.graph):
            return value
        # Without this dependency, graph optimisation would merge it with the forward pass, and keep that result.
        with tf.control_dependencies([upstream]):
            self._value = self._compute()
        return self._value


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """The options that a layer gives its quantizer beside the tensor. None means not given.

    Args:
        again: the result of the quantizer's `again` for the same tensor.
        bits: the bit width, int32 scalar or int (`ByBits`).
        size: the kernel size, int32 scalar or int (`ByBits`).
        statistics: the range of batches, float32 (2, 1) (`BatchQuant`).
        snap: whether the zero point is rounded (`BatchQuant`, `LSQPlus`).
    """

    again: Again | None = None
    bits: tf.Tensor | int | None = None
    size: tf.Tensor | int | None = None
    statistics: tf.Tensor | None = None
    snap: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The given options by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


_NOTHING = Options()


class Quantizer(keras.layers.Layer):
    """A thin, serialisable wrapper around the mathematics of one quantization method.

    A subclass implements `set_from`, `fake_quantize` and, if it learns anything, `parameters`. Its `traits` declare
    what it can do. A quantizer in an argument of a layer or supernet is a prototype: every layer makes its own by
    `clone`, since no quantizer object may belong to two layers. A method for `ByBits` also implements `compute`.

    Args:
        bits: bit width, 2 to 16.
        signed: whether the integer range has negative codes. None lets initialisation decide from the tensor.
        narrow_range: whether a signed range drops its lowest code.
    """

    traits = Traits()

    def __init__(self, bits: int, signed: bool | None = True, narrow_range: bool = False, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})  # in a model of float16 too
        # Until the sign is decided the signed range stands in. The output is NaN, since parameters are not set.
        self.qn, self.qp = integer_range(bits, True if signed is None else signed, narrow_range)
        self.bits = bits
        self.signed = signed
        self.narrow_range = narrow_range
        self._last_pass: Pass | None = None

    def decide(self, signed: bool) -> None:
        """Sets whether the integer range has negative codes."""
        self.narrow_range = self.narrow_range and signed
        self.qn, self.qp = integer_range(self.bits, signed, self.narrow_range)
        self.signed = signed

    @property
    def strategy(self) -> str | None:
        """The name of the method in settings if it depends on arguments, else None."""
        return None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that this quantizer can have."""
        return self.traits.roles

    @property
    def storage_bits(self) -> int:
        """Bit width of a signed or unsigned integer that holds the codes of `to_integers`."""
        return self.traits.code_bits(self.bits, self.roles[0])

    @classmethod
    def parameters(cls) -> dict[str, dict[str, Any]]:
        """Names of learned parameters with keyword arguments for `add_weight`. They are NaN until they are set."""
        return {}

    def add_parameters(self, parameters: Mapping[str, dict[str, Any]], shape: tuple[int, ...] = ()) -> None:
        """Adds a variable of this shape for each of `parameters`, as an attribute with its name."""
        for name, settings in parameters.items():
            # A constraint is assigned inside a replica, which tf.distribute allows only with an aggregation.
            aggregation = "mean" if settings.get("trainable", True) else "none"
            own = {"initializer": keras.initializers.Constant(float("nan")), "aggregation": aggregation, **settings}
            own["autocast"] = False  # a step has float32 within a layer of float16 too
            setattr(self, name, self.add_weight(name=name, shape=shape, **own))

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.add_parameters(type(self).parameters())
        self.built = True

    @property
    def codes(self) -> Codes:
        """The integer range as `Codes` of numbers."""
        return Codes(self.bits, self.qn, self.qp, self.qn < 0, self.narrow_range)

    def __call__(self, x: tf.Tensor, batched: bool = False, training: bool | None = None, **options: Any) -> tf.Tensor:
        """Fake-quantizes `x` (float32, any shape).

        Args:
            batched: whether the first axis of `x` is a batch.
            training: see `keras.layers.Layer`.
            options: fields of `Options`.
        """
        # One record, since Keras refuses tensors together with other objects in the keyword arguments of a call.
        context = {} if training is None else {"training": training}
        return super().__call__(x, batched=batched, options=Options(**options), **context)

    def call(self, x: tf.Tensor, batched: bool = False, options: Options = _NOTHING) -> tf.Tensor:
        one = _INITIALIZING.get()
        if one:
            if not tf.executing_eagerly():
                raise RuntimeError(f"{self.path}: quantizers are initialised eagerly, outside of tf.function")
            self._initialize(x, one)
        if not self.decided and not tf.executing_eagerly():  # a trace would keep the provisional sign
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
        """Unsigned if no value is negative, or if finer steps outweigh clipped negative values (h-swish)."""
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
        """Whether the sign of the codes is known. If not, initialisation decides it."""
        return self.signed is not None

    @property
    def below_zero(self) -> bool:
        """Whether some codes stand for negative values; True while this is unknown."""
        return self.signed is not False

    @property
    def is_set(self) -> bool:
        """Whether the parameters are set, by initialisation or from a file."""
        return self.decided and not any(np.isnan(v.numpy()).any() for v in self.variables)

    def set_from(self, x: tf.Tensor) -> None:
        """Sets the parameters for the tensor `x`."""
        raise NotImplementedError

    def widen(self, x: tf.Tensor) -> None:
        """Adapts the parameters to a further tensor in the same pass of initialisation."""
        self.set_from(x)

    def fake_quantize(self, x: tf.Tensor, batched: bool) -> tf.Tensor:
        """Returns `x` on the grid of this quantizer, with the same shape and dtype."""
        raise NotImplementedError

    def grid(self, x: tf.Tensor, batched: bool) -> UniformGrid | None:
        """The `UniformGrid` whose `rounded` is `fake_quantize(x)`, with which mixtures need only one pass, or None."""
        return None

    @staticmethod
    def compute(x: tf.Tensor, parameters: Mapping[str, tf.Tensor], codes: Codes, batched: bool) -> tf.Tensor:
        """`fake_quantize` as a function of the parameters (tensors by name) and the `Codes`."""
        raise NotImplementedError

    def again(self, x: tf.Tensor) -> Again | None:
        """The `Again` that computes the result of a call with `x`, an option of `fake_quantize`, or None.

        Variables are read here rather than when it computes, since gradients cannot read variables under `tf.cond`.
        """
        return None

    def to_integers(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, int]:
        """Returns `(q, scale, zero_point)` with int32 codes and `fake_quantize(x) = (q - zero_point) * scale`.

        Raises:
            NoIntegersError: if the values are not integers times a step. The exporter adds the name of the layer.
        """
        raise NotImplementedError

    def halved(self) -> Quantizer:
        """The quantizer with one bit less that inherits the parameters (bit inheritance), by default unchanged."""
        quantizer = self.with_bits(self.bits - 1)
        if self.built:
            quantizer.build()
            for source, target in zip(self.variables, quantizer.variables, strict=True):
                target.assign(source)
        return quantizer

    def with_bits(self, bits: int) -> Quantizer:
        """The same prototype with another bit width."""
        if not any(self.traits.supports(bits, role) for role in self.roles):
            self.traits.check(type(self).__name__, bits, self.roles[0])
        return type(self).from_config({**self.get_config(), "bits": bits})

    def for_sizes(self, sizes: Mapping[int, tuple[int, ...]]) -> Quantizer:
        """The prototype for a tensor of an elastic layer, by default this one since all sizes share the parameters.

        Args:
            sizes: `{axis: sizes}` of the axes that may have several sizes.
        """
        return self

    def for_kernel_sizes(self, sizes: tuple[int, ...]) -> Quantizer:
        """The prototype for a depthwise layer with these kernel sizes, by default this one."""
        return self

    def along(self, axis: int) -> Quantizer:
        """The prototype for kernels with output channels along `axis`, which is this one if it has a single scale."""
        config = self.get_config()
        if config.get("axis") in (None, axis):
            return self
        unknown = {"channels": None} if "channels" in config else {}  # another axis has another number of channels
        return type(self).from_config({**config, "axis": axis, **unknown})

    def values_for(self, shape: Sequence[int | None]) -> list[np.ndarray]:
        """The values that quantize a tensor of this shape, in the order of `variables`."""
        return [variable.numpy() for variable in self.variables]

    @property
    def problem(self) -> str | None:
        """A text if the parameters are not initialised or have collapsed, else None."""
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
        ValueError: if `name` is a layer's argument for weights or inputs, and the quantizer does not have that role.
    """
    if quantizer is None:
        return None
    if isinstance(quantizer, dict):  # from the configuration of a saved layer
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
