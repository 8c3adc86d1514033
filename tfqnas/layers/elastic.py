"""Elastic layers compute with a part of the largest layer's weights.

Calls take sizes as Python ints or as int32 scalar tensors. Tensors become dynamic slices of one graph, which then
serves every architecture without a retrace. If a size is not given, nothing is sliced and the layer is static. Only
TensorFlow's operators are used, since those of Keras need to know the number of channels during tracing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfqnas.layers.convolution import conv2d
from tfqnas.layers.depthwise import depthwise_conv2d
from tfqnas.layers.quantized import QuantConv2D, QuantDepthwiseConv2D
from tfqnas.quantizers import Quantizer, clone
from tfqnas.quantizers.base import Again


def _channels(x: tf.Tensor, largest: int) -> tf.Tensor | int | None:
    """The number of channels of `x`, or None if it is `largest`."""
    static = x.shape[-1]
    if static == largest:
        return None
    return tf.shape(x)[-1] if static is None else static


def _refuse_unless(layer: keras.layers.Layer, **expected: Any) -> None:
    """Raises ValueError if a Keras layer has a setting that its elastic version does not support."""
    for name, value in expected.items():
        received = getattr(layer, name)
        if received != value:
            raise ValueError(f"{type(layer).__name__}: {name}: expected {value!r}, received {received!r}")


if TYPE_CHECKING:
    from tfqnas.layers.quantized import _Quantized

    _Base = _Quantized
else:
    _Base = object  # a mixin, which comes before the layer's class


class _Elastic(_Base):
    """The common part of elastic convolutions: kernels cut to size, with bit widths and ranges as arguments."""

    @property
    def observer(self) -> Quantizer | None:
        """The input quantizer if it observes its input, so that calls take its statistics; otherwise None."""
        quantizer = self.input_quantizer
        return quantizer if quantizer is not None and quantizer.traits.observes else None

    def cut_kernel(
        self, cut: Callable[[tf.Tensor], tf.Tensor], bits: tf.Tensor | None, size: tf.Tensor | int | None = None
    ) -> tf.Tensor:
        """The quantized kernel of a subnet.

        Args:
            cut: function that cuts the subnet's kernel out of the full kernel.
            bits: None, or int32 (2,), bit widths of weights and inputs.
            size: kernel size, None for the largest.
        """
        kernel = tf.convert_to_tensor(self.kernel)
        if self.weight_quantizer is None or not self.weight_quantizer.traits.whole:
            return self.quantized_kernel(cut(kernel))
        options = {} if bits is None else {"bits": bits[0]}
        return cut(self.quantized_kernel(kernel, size=size, **options))

    def seen_inputs(
        self,
        x: tf.Tensor,
        bits: tf.Tensor | None,
        size: tf.Tensor | int | None,
        statistics: tf.Tensor | None,
        collect: bool,
    ) -> tuple[tf.Tensor, Again | None, tf.Tensor | None]:
        """`(quantized x, the Again that computes it a second time or None, the statistics of x or None)`."""
        quantizer = self.input_quantizer
        options: dict[str, Any] = {}
        if quantizer is None or not (quantizer.traits.whole or quantizer.traits.observes):
            return *self.forgettable_inputs(x), None
        if quantizer.traits.whole:
            options = {"size": size} if bits is None else {"size": size, "bits": bits[1]}
        seen = None
        if quantizer.traits.observes:
            seen = quantizer.observe(x) if statistics is None else statistics
            # Calls that give or collect statistics are evaluation, in which zero points are whole numbers.
            snap = quantizer.snapped and (statistics is not None or collect)
            options |= {"statistics": seen, "snap": snap}
        return quantizer(x, batched=True, **options), None, seen


@keras.saving.register_keras_serializable("tfqnas")
class ElasticConv2D(_Elastic, QuantConv2D):
    """Convolution with elastic width, which uses the first input channels and the first `filters` of its kernel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _refuse_unless(
            self, data_format="channels_last", dilation_rate=(1, 1), groups=1, activation=keras.activations.linear
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.input_spec = None  # accepts narrower inputs

    def call(
        self,
        x: tf.Tensor,
        filters: tf.Tensor | int | None = None,
        bits: tf.Tensor | None = None,
        statistics: tf.Tensor | None = None,
        collect: bool = False,
        affine: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Convolves the first channels.

        Args:
            x: float32 (batch, height, width, channels).
            filters: number of output channels, all if None.
            bits: int32 (2,), bit widths of weights and inputs, for `ByBits` quantizers.
            statistics: statistics of `observer`, float32 (2, n); None for those of this batch.
            collect: also return the statistics of the batch, if there is an `observer`.
            affine: None, or `(scale, offset)`, float32 (largest filters,), which are folded into the convolution of a
                layer without bias; not differentiable.

        Returns:
            `y`, float32 (batch, height, width, filters), or `(y, statistics)`.
        """
        inputs = _channels(x, self.kernel.shape[2])
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        if inputs is None and filters is None:
            kernel = self.cut_kernel(lambda kernel: kernel, bits)
        else:
            kernel = self.cut_kernel(lambda kernel: kernel[:, :, :inputs, :filters], bits)
            bias = None if bias is None else bias[:filters]
        x, again, seen = self.seen_inputs(x, bits, None, statistics, collect)
        if affine is not None:
            scale, offset = (v[:filters] for v in affine)
            return tf.nn.bias_add(tf.nn.conv2d(x, kernel * scale, self.strides, self.padding.upper()), offset)
        y = conv2d(x, kernel, self.strides, self.padding.upper(), again)
        y = y if bias is None else tf.nn.bias_add(y, bias)
        return (y, seen) if collect and seen is not None else y


@keras.saving.register_keras_serializable("tfqnas")
class ElasticDepthwiseConv2D(_Elastic, QuantDepthwiseConv2D):
    """Depthwise convolution with elastic kernel size and width.

    A smaller kernel is the centre of the largest kernel (OQA, section 3.3). With `kernel_transform` it is a learned
    linear map of that centre, with a matrix for each step down that all channels share, initialised with the identity
    (once-for-all, Cai et al., 2020, section 3.2).

    Args:
        kernel_size: the largest kernel size, odd.
        kernel_sizes: all kernel sizes that calls may use; by default any.
        kernel_transform: learn the map to the smaller kernels of `kernel_sizes`.
    """

    def __init__(
        self,
        kernel_size: int,
        *args: Any,
        kernel_sizes: Sequence[int] | None = None,
        kernel_transform: bool = False,
        **kwargs: Any,
    ) -> None:
        for role in ("weight_quantizer", "input_quantizer"):
            if kernel_sizes and kwargs.get(role) is not None:
                kwargs[role] = clone(kwargs[role]).for_kernel_sizes(tuple(kernel_sizes))
        super().__init__(kernel_size, *args, **kwargs)
        _refuse_unless(
            self,
            padding="same",
            data_format="channels_last",
            dilation_rate=(1, 1),
            depth_multiplier=1,
            use_bias=False,
            activation=keras.activations.linear,
        )
        self.kernel_sizes = tuple(kernel_sizes or ())
        self.kernel_transform = kernel_transform
        if kernel_transform and not self.kernel_sizes:
            raise ValueError("kernel_transform needs kernel_sizes, the sizes between which it maps")

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.input_spec = None
        self.transforms = {}
        if self.kernel_transform:
            for size in sorted(self.kernel_sizes, reverse=True)[1:]:
                self.transforms[str(size)] = self.add_weight(
                    name=f"transform_{size}", shape=(size**2, size**2), initializer="identity"
                )

    def _cropped(self, kernel: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
        start = (self.kernel.shape[0] - size) // 2
        return kernel[start : start + size, start : start + size]

    def _transformed(self, kernel: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
        """Maps the kernel down to each size in turn, and returns that of `size`. All of them are tiny."""
        largest, channels = self.kernel.shape[0], tf.shape(kernel)[2]
        chosen = kernel
        for small, matrix in ((int(s), m) for s, m in self.transforms.items()):
            centre = tf.reshape(self._cropped(kernel, small), (small**2, -1))
            mapped = tf.reshape(tf.linalg.matmul(matrix, centre), (small, small, channels, -1))
            margin = (largest - small) // 2
            kernel = tf.pad(mapped, ((margin, margin), (margin, margin), (0, 0), (0, 0)))
            chosen = tf.where(tf.equal(size, small), kernel, chosen)
        return chosen

    def view(
        self,
        kernel_size: tf.Tensor | int | None = None,
        channels: tf.Tensor | int | None = None,
        kernel: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The kernel of a subnet, float32 (kernel_size, kernel_size, channels, 1).

        Args:
            kernel_size, channels: sizes; None for the largest.
            kernel: the full kernel to cut from; None for the layer's own.
        """
        kernel = tf.convert_to_tensor(self.kernel if kernel is None else kernel)
        if channels is not None:
            kernel = kernel[:, :, :channels]
        if kernel_size is None:
            return kernel
        return self._cropped(self._transformed(kernel, kernel_size), kernel_size)

    def call(
        self,
        x: tf.Tensor,
        kernel_size: tf.Tensor | int | None = None,
        bits: tf.Tensor | None = None,
        statistics: tf.Tensor | None = None,
        collect: bool = False,
        affine: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Convolves with a smaller kernel; the arguments other than `kernel_size` are as in `ElasticConv2D`.

        Returns:
            `y`, with the shape of `x` divided by the strides, or `(y, statistics)`.
        """
        channels = _channels(x, self.kernel.shape[2])
        kernel = self.cut_kernel(lambda kernel: self.view(kernel_size, channels, kernel), bits, kernel_size)
        x, again, seen = self.seen_inputs(x, bits, kernel_size, statistics, collect)
        if affine is not None:
            scale, offset = (v[:channels] for v in affine)
            y = tf.nn.depthwise_conv2d(x, kernel * scale[:, tf.newaxis], (1, *self.strides, 1), "SAME")
            return tf.nn.bias_add(y, offset)
        y = depthwise_conv2d(x, kernel, (1, *self.strides, 1), again)
        return (y, seen) if collect and seen is not None else y

    def get_config(self) -> dict[str, Any]:
        own = {"kernel_sizes": self.kernel_sizes, "kernel_transform": self.kernel_transform}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tfqnas")
class ElasticBatchNorm(keras.layers.Layer):
    """Batch normalisation of the first channels, with statistics as arguments.

    It keeps no moving averages, which in a supernet would mix all subnets and suit none. A call normalises by the
    statistics of its own batch (training and recalibration) or by given statistics (evaluation).

    Args:
        epsilon: number that is added to the variance.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")
        self.built = True

    def call(
        self, x: tf.Tensor, statistics: tf.Tensor | None = None, collect: bool = False
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Normalises `x`, float32 (batch, height, width, channels).

        Args:
            x: the input.
            statistics: mean and variance, float32 (2, largest channels); None for those of this batch.
            collect: also return the statistics of the batch, padded to the largest width.

        Returns:
            `y`, or `(y, statistics)`.
        """
        largest = self.gamma.shape[0]
        channels = _channels(x, largest)
        gamma, beta = (tf.convert_to_tensor(v)[:channels] for v in (self.gamma, self.beta))
        if statistics is not None:
            # In the order of Keras' BatchNormalization, so that an extracted subnet rounds the same way. The result is
            # quantized, and values on a tie must not differ.
            scale, offset = (v[:channels] for v in self.affine(statistics))
            return x * scale + offset
        none = tf.zeros((0,))
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=self.epsilon, is_training=True
        )
        if not collect:
            return y
        # The kernel normalises by the population's variance but reports Bessel's estimate.
        count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32)
        statistics = tf.stack([mean, variance * (count - 1.0) / count])
        return y, tf.pad(statistics, ((0, 0), (0, largest - tf.shape(statistics)[1])))

    @property
    def statistics_size(self) -> int:
        """The length of the rows of its statistics."""
        return self.gamma.shape[0]

    @staticmethod
    def pooled(statistics: np.ndarray) -> np.ndarray:
        """Mean and total variance, float32 (2, n), from those of batches of equal size, float32 (batches, 2, n)."""
        means, variances = statistics[:, 0], statistics[:, 1]
        return np.stack([means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)])

    def affine(self, statistics: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(scale, offset)`, float32 (largest channels,), with which the layer is `x * scale + offset`.

        Folding them into the convolution before (`normalized`) saves three passes over the widest tensors. The result
        equals that of an extracted subnet only to float rounding, which moves some quantized values over ties. This is
        acceptable for the scores of a search.
        """
        mean, variance = statistics[0], statistics[1]
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return scale, self.beta - mean * scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


def convolved(
    convolution: ElasticConv2D | ElasticDepthwiseConv2D,
    x: tf.Tensor,
    given: Iterator[tf.Tensor] | None = None,
    collected: list[tf.Tensor] | None = None,
    **sizes: Any,
) -> tf.Tensor:
    """`convolution(x, **sizes)`, with the statistics of its `observer` if it has one.

    Args:
        convolution: elastic convolution.
        x: its input.
        given: an iterator whose next element is the observer's statistics; None for those of the batch.
        collected: a list to which the statistics of the batch are appended, or None.
        sizes: arguments of the convolution.
    """
    if convolution.observer is None:
        return convolution(x, **sizes)
    if given is not None:
        return convolution(x, statistics=next(given), **sizes)
    if collected is None:
        return convolution(x, **sizes)
    y, statistics = convolution(x, collect=True, **sizes)
    collected.append(statistics)
    return y


def normalized(
    convolution: ElasticConv2D | ElasticDepthwiseConv2D,
    norm: ElasticBatchNorm,
    x: tf.Tensor,
    given: Iterator[tf.Tensor] | None = None,
    collected: list[tf.Tensor] | None = None,
    folded: bool = False,
    **sizes: Any,
) -> tf.Tensor:
    """`norm(convolution(x, **sizes))`.

    Args:
        convolution: elastic convolution without bias.
        norm: `ElasticBatchNorm`.
        x: input of the convolution.
        given, collected: as in `convolved`, with the statistics of the convolution and then of the norm.
        folded: fold given statistics into the convolution (`ElasticBatchNorm.affine`), without a gradient.
        sizes: arguments of the convolution.
    """
    if folded:
        assert given is not None  # only given statistics can be folded
        seen = {} if convolution.observer is None else {"statistics": next(given)}
        return convolution(x, affine=norm.affine(next(given)), **seen, **sizes)
    y = convolved(convolution, x, given, collected, **sizes)
    if given is not None:
        return norm(y, statistics=next(given))
    if collected is None:
        return norm(y)
    y, statistics = norm(y, collect=True)
    collected.append(statistics)
    return y


@keras.saving.register_keras_serializable("tfqnas")
class ElasticSqueezeExcite(keras.layers.Layer):
    """Squeeze-and-excitation with elastic width (Hu et al., 2018; gate as in MobileNetV3), not quantized.

    Args:
        squeezed: the largest number of squeezed channels.
    """

    expand: ElasticConv2D

    def __init__(self, squeezed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.squeezed = squeezed
        self.reduce = ElasticConv2D(squeezed, 1, name="reduce")
        self.expand = None  # type: ignore[assignment]  # until it is built

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.expand = ElasticConv2D(input_shape[-1], 1, name="expand")
        self.reduce.build((None, 1, 1, input_shape[-1]))
        self.expand.build((None, 1, 1, self.squeezed))
        self.built = True

    def call(self, x: tf.Tensor, squeezed: tf.Tensor | int | None = None) -> tf.Tensor:
        """`x`, float32 (batch, height, width, channels), times a gate for each channel."""
        gate = tf.reduce_mean(x, axis=(1, 2), keepdims=True)
        gate = tf.nn.relu(self.reduce(gate, filters=squeezed))
        gate = self.expand(gate, filters=_channels(x, self.expand.filters))
        return x * keras.activations.hard_sigmoid(gate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "squeezed": self.squeezed}
