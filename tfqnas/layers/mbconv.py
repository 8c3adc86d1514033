"""The inverted residual block (MobileNetV2 and V3) with elastic kernel size and width."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfqnas.layers.elastic import (
    ElasticBatchNorm,
    ElasticConv2D,
    ElasticDepthwiseConv2D,
    ElasticSqueezeExcite,
    normalized,
)
from tfqnas.quantizers import Quantizer, clone

_ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hswish": "hard_silu"}


def keras_activation(name: str) -> str:
    """The Keras name of a search space's activation "relu", "relu6" or "hswish"."""
    return _ACTIVATIONS[name]


@keras.saving.register_keras_serializable("tfqnas")
class ElasticMBConv(keras.layers.Layer):
    """Inverted residual block: 1x1 expansion, k x k depthwise, squeeze-excite, 1x1 projection, plus the input.

    Args:
        hidden: the largest number of expanded channels.
        out_channels: number of channels after the projection.
        kernel_sizes: the kernel sizes that calls may use.
        stride: stride of the depthwise convolution, 1 or 2.
        has_expansion: whether there is an expansion convolution.
        se_channels: the largest number of squeezed channels, 0 for no squeeze-excite.
        activation: "relu", "relu6" or "hswish".
        residual: add the input.
        weight_quantizer, input_quantizer: prototypes for the three convolutions, or None.
        kernel_transform: see `ElasticDepthwiseConv2D`.
        hidden_sizes: the numbers of expanded channels that calls may use; by default only `hidden`. Quantizers with
            separate parameters for each size need them.
    """

    def __init__(
        self,
        hidden: int,
        out_channels: int,
        kernel_sizes: Sequence[int],
        stride: int = 1,
        has_expansion: bool = True,
        se_channels: int = 0,
        activation: str = "relu",
        residual: bool = False,
        weight_quantizer: Quantizer | dict[str, Any] | None = None,
        input_quantizer: Quantizer | dict[str, Any] | None = None,
        kernel_transform: bool = False,
        hidden_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        widths = tuple(hidden_sizes or (hidden,))
        self.settings: dict[str, Any] = {
            "hidden": hidden,
            "out_channels": out_channels,
            "kernel_sizes": tuple(kernel_sizes),
            "stride": stride,
            "has_expansion": has_expansion,
            "se_channels": se_channels,
            "activation": activation,
            "residual": residual,
            "kernel_transform": kernel_transform,
            "hidden_sizes": widths,
        }
        self.prototypes = {"weight_quantizer": weight_quantizer, "input_quantizer": input_quantizer}
        self.activation = keras.activations.get(keras_activation(activation))
        common = {"padding": "same", "use_bias": False}
        pointwise = {"kernel_size": 1, "kernel_initializer": "he_normal", **common}
        self.expand: ElasticConv2D | None = None
        self.expand_norm: ElasticBatchNorm | None = None
        self.squeeze_excite: ElasticSqueezeExcite | None = None
        if has_expansion:
            self.expand = ElasticConv2D(hidden, name="expand", **pointwise, **self._quantizers({3: widths}, {}))
            self.expand_norm = ElasticBatchNorm(name="expand_norm")
        largest = max(kernel_sizes)
        # He's initialisation with the k * k inputs of one filter. Keras counts those of all channels, which makes the
        # weights of wide layers so small that the first steps of training overturn them and their LSQ step.
        he_normal = keras.initializers.RandomNormal(stddev=2**0.5 / largest)
        self.depthwise = ElasticDepthwiseConv2D(
            largest,
            strides=stride,
            kernel_sizes=kernel_sizes,
            kernel_transform=kernel_transform,
            depthwise_initializer=he_normal,
            name="depthwise",
            **common,
            **self._quantizers({0: tuple(kernel_sizes), 2: widths}, {3: widths}),
        )
        self.depthwise_norm = ElasticBatchNorm(name="depthwise_norm")
        if se_channels:
            self.squeeze_excite = ElasticSqueezeExcite(se_channels, name="squeeze_excite")
        self.project = ElasticConv2D(
            out_channels, name="project", **pointwise, **self._quantizers({2: widths}, {3: widths})
        )
        self.project_norm = ElasticBatchNorm(name="project_norm")
        pairs = (
            (self.expand, self.expand_norm),
            (self.depthwise, self.depthwise_norm),
            (self.project, self.project_norm),
        )
        self.convolutions = [convolution for convolution, _ in pairs if convolution is not None]
        # The layers and quantizers with statistics, in the order in which a call takes and returns them.
        of_halves = [
            [o for c, norm in half if c is not None for o in (c.observer, norm) if o is not None]
            for half in (pairs[:1], pairs[1:])
        ]
        self.observers_of_halves = tuple(of_halves)
        self.observers = [*of_halves[0], *of_halves[1]]

    def _quantizers(
        self, weight_sizes: Mapping[int, tuple[int, ...]], input_sizes: Mapping[int, tuple[int, ...]]
    ) -> dict[str, Quantizer | None]:
        """Prototypes for a convolution whose kernel and input may have the given sizes along the given axes."""
        sizes = {"weight_quantizer": weight_sizes, "input_quantizer": input_sizes}
        prototypes = {role: clone(prototype) for role, prototype in self.prototypes.items()}
        return {role: p if p is None else p.for_sizes(sizes[role]) for role, p in prototypes.items()}

    @property
    def quantizers(self) -> list[Quantizer]:
        """The quantizers of the convolutions, in order."""
        return [q for layer in self.convolutions for q in layer.quantizers]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """`input_shape` is (batch, height, width, channels), of which only the channels must be known."""
        hidden = (*input_shape[:3], self.settings["hidden"])
        out = (*input_shape[:3], self.settings["out_channels"])
        if self.expand is not None and self.expand_norm is not None:
            self.expand.build(input_shape)
            self.expand_norm.build(hidden)
        self.depthwise.build(hidden)
        self.depthwise_norm.build(hidden)
        if self.squeeze_excite is not None:
            self.squeeze_excite.build(hidden)
        self.project.build(hidden)
        self.project_norm.build(out)
        self.built = True

    def call(
        self,
        x: tf.Tensor,
        kernel_size: tf.Tensor | int | None = None,
        hidden: tf.Tensor | int | None = None,
        se_channels: tf.Tensor | int | None = None,
        bits: tf.Tensor | None = None,
        statistics: Sequence[tf.Tensor] | None = None,
        collect: bool = False,
    ) -> tf.Tensor | tuple[tf.Tensor, list[tf.Tensor]]:
        """Computes the block with the given sizes.

        Args:
            x: float32 (batch, height, width, channels).
            kernel_size, hidden, se_channels: ints or int32 scalars; None for the largest.
            bits: None, or int32 (convolutions, 2), bit widths of weights and inputs of each of `convolutions`.
            statistics: None, or a list with the statistics of each of `observers`.
            collect: also return the statistics of the batch.

        Returns:
            `y`, or `(y, statistics)` with a list in the order of `observers`.
        """
        given = iter(statistics) if statistics is not None else None
        collected: list[tf.Tensor] | None = [] if collect else None
        y = self.expanded(x, hidden, bits, given, collected)
        y = self.finished(x, y, kernel_size, se_channels, bits, given, collected)
        return (y, collected) if collect else y

    # The two halves of a call, with which `tfqnas.scoring` computes common beginnings once. The first half does not
    # depend on the kernel size. `given`, `collected` and `folded` are as in `normalized`.

    def expanded(
        self,
        x: tf.Tensor,
        hidden: tf.Tensor | int | None = None,
        bits: tf.Tensor | None = None,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The output of the expansion, float32 (batch, height, width, hidden); `x` itself in a block without one."""
        if self.expand is None or self.expand_norm is None:
            return x
        options = {"folded": folded, "filters": hidden, **self._bits(self.expand, bits)}
        return self.activation(normalized(self.expand, self.expand_norm, x, given, collected, **options))

    def finished(
        self,
        x: tf.Tensor,
        y: tf.Tensor,
        kernel_size: tf.Tensor | int | None = None,
        se_channels: tf.Tensor | int | None = None,
        bits: tf.Tensor | None = None,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The output of the block, float32 (batch, height, width, out_channels), from the expansion `y` of `x`."""
        options = {"folded": folded, "kernel_size": kernel_size, **self._bits(self.depthwise, bits)}
        y = self.activation(normalized(self.depthwise, self.depthwise_norm, y, given, collected, **options))
        if self.squeeze_excite is not None:
            y = self.squeeze_excite(y, squeezed=se_channels)
        options = {"folded": folded, **self._bits(self.project, bits)}
        y = normalized(self.project, self.project_norm, y, given, collected, **options)
        if self.settings["residual"]:
            y = tf.add_n([x, y])  # x + y can fail inside tf.cond after graph optimisation
        return y

    def _bits(self, convolution: keras.layers.Layer, bits: tf.Tensor | None) -> dict[str, tf.Tensor]:
        place = next(i for i, layer in enumerate(self.convolutions) if layer is convolution)
        return {} if bits is None else {"bits": bits[place]}

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        prototypes = {name: serialize(quantizer) for name, quantizer in self.prototypes.items()}
        return {**super().get_config(), **self.settings, **prototypes}
