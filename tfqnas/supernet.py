"""The supernet holds all subnets of a search space in one set of weights, and takes the architecture as an argument."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfqnas.layers import ElasticBatchNorm, ElasticConv2D, ElasticMBConv, keras_activation
from tfqnas.layers.elastic import convolved, normalized
from tfqnas.quantizers import Quantizer, initializing, quantizers_of
from tfqnas.spaces import Block, SearchSpace


class Supernet(keras.Model):
    """Elastic MobileNet of a `SearchSpace`. First convolution, squeeze-excite and classifier are not quantized.

    The architecture enters as a tensor, so that one trace serves every architecture. Without a code the largest network
    is computed, without slices and conditionals. BatchNorm statistics are arguments as well (see `ElasticBatchNorm`);
    `tfqnas.recalibrate` computes them.

    Args:
        space: `tfqnas.spaces.SearchSpace`.
        weights: prototype `Quantizer` of the convolutions' kernels, or None.
        inputs: prototype `Quantizer` of the convolutions' inputs, or None.
        num_classes: number of outputs of the classifier.
        channels: number of image channels.
        dropout: dropout rate before the classifier in training.
        kernel_transform: learn the map from larger to smaller kernels (`ElasticDepthwiseConv2D`).

    Raises:
        ValueError: an argument has a value that it cannot have, or a quantizer does not have the bit widths of the
            space, or keeps a scale for each channel.
    """

    def __init__(
        self,
        space: SearchSpace,
        weights: Quantizer | None = None,
        inputs: Quantizer | None = None,
        num_classes: int = 1000,
        channels: int = 3,
        dropout: float = 0.0,
        kernel_transform: bool = False,
        name: str = "supernet",
    ) -> None:
        super().__init__(name=name)
        self.space = space
        _check_arguments(space, weights, inputs, num_classes, channels, dropout)
        _check_bits(space, weights, inputs)
        if weights is not None and weights.traits.per_channel:
            raise ValueError(
                f"weights: {type(weights).__name__} keeps a scale for each channel of a kernel, but subnets have parts "
                "of it: expected one scale for all (axis=None)"
            )
        self.settings: dict[str, Any] = {
            "weights": weights,
            "inputs": inputs,
            "num_classes": num_classes,
            "channels": channels,
            "dropout": dropout,
            "kernel_transform": kernel_transform,
        }
        quantizers = {"weight_quantizer": weights, "input_quantizer": inputs}
        pointwise = {"kernel_size": 1, "use_bias": False, "kernel_initializer": "he_normal", **quantizers}

        self.stem = ElasticConv2D(
            space.stem_channels,
            space.stem_kernel,
            strides=space.stem_stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name="stem",
        )
        self.stem_norm = ElasticBatchNorm(name="stem_norm")
        self.stem_activation = keras.activations.get(keras_activation(space.stem_activation))
        self.stem.build((None, None, None, channels))
        self.stem_norm.build((None, None, None, space.stem_channels))
        self.blocks = []
        self._choices = []
        for block in space.blocks(space.largest()):
            layer = ElasticMBConv(
                block.hidden,
                block.out_channels,
                space.stages[block.stage].kernels,
                stride=block.stride,
                has_expansion=block.has_expansion,
                se_channels=block.se_channels,
                activation=block.activation,
                residual=block.residual,
                kernel_transform=kernel_transform,
                hidden_sizes=space.hidden_choices(block.stage, block.index),
                name=f"stage{block.stage + 1}_block{block.index + 1}",
                **quantizers,
            )
            layer.build((None, None, None, block.in_channels))
            self.blocks.append(layer)
            self._choices.append(_BlockChoices(space, block))
        self._end_bits = _BitChoices(space)
        last = self.blocks[-1].settings["out_channels"]
        self.head = ElasticConv2D(space.head_channels, name="head", **pointwise)
        self.head_norm = ElasticBatchNorm(name="head_norm")
        self.head_activation = keras.activations.get(keras_activation(space.head_activation))
        self.head.build((None, None, None, last))
        self.head_norm.build((None, None, None, space.head_channels))
        features = space.head_channels
        self.feature = None
        if space.feature_channels:
            self.feature = ElasticConv2D(space.feature_channels, name="mix", **pointwise)  # its name in checkpoints
            self.feature.build((None, None, None, features))
            features = space.feature_channels
        self.classifier = keras.layers.Dense(num_classes, name="classifier")
        self.classifier.build((None, features))
        self.built = True

        # Compiled once per object, with signatures that fit every architecture and image size.
        images = tf.TensorSpec((None, None, None, channels), tf.float32)
        code = tf.TensorSpec((len(space.genes),), tf.int32)
        statistics = [tf.TensorSpec((2, o.statistics_size), tf.float32) for o in self.observers]
        self.batch_statistics = tf.function(self._batch_statistics, input_signature=(images, code), autograph=False)
        self.logits = tf.function(self._logits, input_signature=(images, code, statistics), autograph=False)

    @property
    def observers(self) -> list[Any]:
        """The BatchNorms and quantizers that have statistics, in the order of `statistics`.

        Each has `statistics_size`, and `pooled`, which combines the statistics of batches.
        """
        return [self.stem_norm, *(o for block in self.blocks for o in block.observers), *self.end_observers]

    @property
    def end_observers(self) -> list[Any]:
        """The observers of the head."""
        of_feature = None if self.feature is None else self.feature.observer
        return [o for o in (self.head.observer, self.head_norm, of_feature) if o is not None]

    @property
    def quantizers(self) -> list[Quantizer]:
        """All quantizers in the order of the layers."""
        return quantizers_of(self)

    @property
    def bits(self) -> int | Literal["mixed"] | None:
        """Bit width of the weights, "mixed" for several, or None for a float supernet."""
        weights = self.settings["weights"]
        if weights is None:
            return None
        return "mixed" if self.space.mixed else weights.bits

    def call(
        self,
        images: tf.Tensor,
        code: tf.Tensor | None = None,
        training: bool = False,
        statistics: Sequence[tf.Tensor] | None = None,
        collect: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor | tuple[tf.Tensor, list[tf.Tensor]]:
        """Computes the logits of the subnet that `code` describes.

        Args:
            images: float32 (batch, resolution, resolution, channels), normalised, at the subnet's resolution.
            code: int32 (n,), from `space.encode`; None for the largest network.
            training: apply dropout.
            statistics: None to normalise by the statistics of this batch, or a float32 (2, size) for each of
                `observers`: mean and variance of a BatchNorm's channels, or the range of a quantizer.
            collect: also return the statistics of this batch.
            seed: int32 (2,), seed of the dropout; needed if `training` and the rate is above 0.

        Returns:
            Logits, float32 (batch, num_classes); with `collect` a pair of logits and the list of statistics.

        Raises:
            ValueError: the images have another shape. (TensorFlow would end the process.)
        """
        channels = self.settings["channels"]
        if len(images.shape) != 4 or images.shape[-1] not in (None, channels):
            raise ValueError(f"images: expected (n, height, width, {channels}), received {tuple(images.shape)}")
        given = iter(statistics) if statistics is not None else None
        collected: list[tf.Tensor] | None = [] if collect else None
        x = self.begin(images, given, collected)
        for block, choices in zip(self.blocks, self._choices, strict=True):
            own = [next(given) for _ in block.observers] if given is not None else None
            x, own = choices.run(block, x, code, own, collect)
            if collected is not None:
                collected.extend(own)
        logits = self.end(x, given, collected, training, seed, self.end_bits(code))
        return (logits, collected) if collect else logits

    # The parts of a call, with which `tfqnas.scoring` computes common beginnings once. `given`, `collected` and
    # `folded` are as in `normalized`.

    def begin(
        self,
        images: tf.Tensor,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The output of the first convolution, float32 (batch, height, width, stem channels)."""
        return self.stem_activation(normalized(self.stem, self.stem_norm, images, given, collected, folded))

    def expansion(
        self,
        number: int,
        x: tf.Tensor,
        expand: tf.Tensor | None = None,
        bits: tf.Tensor | None = None,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The output of the expansion of a block, from `ElasticMBConv.expanded`.

        Args:
            number: index of the block in the largest network.
            x: float32 (batch, height, width, channels), input of the block.
            expand: int32 scalar, index of the expand ratio's choice; None for the largest.
            bits: None, or int32 (convolutions of the block, 2), bit widths of weights and inputs.
            given, collected, folded: as in `normalized`.
        """
        sizes = self._choices[number].sizes(None, expand)
        return self.blocks[number].expanded(x, sizes.get("hidden"), bits, given, collected, folded)

    def after_expansion(
        self,
        number: int,
        x: tf.Tensor,
        y: tf.Tensor,
        kernel: tf.Tensor | None = None,
        expand: tf.Tensor | None = None,
        bits: tf.Tensor | None = None,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The output of a block from its input `x` and its expansion `y`, from `ElasticMBConv.finished`."""
        sizes = self._choices[number].sizes(kernel, expand)
        kernel_size, se_channels = sizes.get("kernel_size"), sizes.get("se_channels")
        return self.blocks[number].finished(x, y, kernel_size, se_channels, bits, given, collected, folded)

    def end(
        self,
        x: tf.Tensor,
        given: Iterator[tf.Tensor] | None = None,
        collected: list[tf.Tensor] | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
        bits: tf.Tensor | None = None,
        folded: bool = False,
    ) -> tf.Tensor:
        """The logits, float32 (batch, num_classes), from the output of the last block.

        `bits` is None, or int32 (1 or 2, 2) with the bit widths of head and feature layer.
        """
        of_head, of_feature = ({} if bits is None or i >= bits.shape[0] else {"bits": bits[i]} for i in (0, 1))
        x = self.head_activation(normalized(self.head, self.head_norm, x, given, collected, folded, **of_head))
        x = tf.reduce_mean(x, axis=(1, 2), keepdims=self.feature is not None)
        if self.feature is not None:
            x = tf.squeeze(self.head_activation(convolved(self.feature, x, given, collected, **of_feature)), (1, 2))
        if training and self.settings["dropout"]:
            x = tf.nn.experimental.stateless_dropout(x, self.settings["dropout"], seed)
        return self.classifier(x)

    def end_bits(self, code: tf.Tensor | None) -> tf.Tensor | None:
        """The argument `bits` of `end` for a code, or for None."""
        return self._end_bits.of(code)

    def _batch_statistics(self, images: tf.Tensor, code: tf.Tensor) -> list[tf.Tensor]:
        return self(images, code, collect=True)[1]

    def _logits(self, images: tf.Tensor, code: tf.Tensor, statistics: Sequence[tf.Tensor]) -> tf.Tensor:
        return self(images, code, statistics=statistics)

    def like(self, **settings: Any) -> "Supernet":
        """A new supernet of the same space with some settings changed, and with initial weights."""
        return Supernet(self.space, **{**self.settings, **settings})


def _check_arguments(
    space: SearchSpace,
    weights: Quantizer | None,
    inputs: Quantizer | None,
    num_classes: int,
    channels: int,
    dropout: float,
) -> None:
    """Raises ValueError for the first argument that a supernet cannot have."""

    def check(ok: object, name: str, expected: str, received: object) -> None:
        if not ok:
            raise ValueError(f"{name}: expected {expected}, received {received!r}")

    check(isinstance(space, SearchSpace), "space", "a SearchSpace, such as spaces.get('mbv3')", space)
    for name, quantizer in (("weights", weights), ("inputs", inputs)):
        check(quantizer is None or isinstance(quantizer, Quantizer), name, "a Quantizer or None", quantizer)
    for name, number in (("num_classes", num_classes), ("channels", channels)):
        check(isinstance(number, (int, np.integer)) and number > 0, name, "a whole number from 1 on", number)
    check(isinstance(dropout, (int, float)) and 0 <= dropout < 1, "dropout", "a number from 0 to below 1", dropout)


def _check_bits(space: SearchSpace, weights: Quantizer | None, inputs: Quantizer | None) -> None:
    """Raises ValueError unless the quantizers have the bit widths that the space chooses from.

    Without quantizers the supernet is a float one, which ignores bit widths in codes.
    """
    if weights is None and inputs is None:
        return
    fixed = None
    if space.fixed_bits is not None:
        fixed = [tuple(sorted(set(widths))) for widths in zip(*space.fixed_bits, strict=True)]
    chosen = fixed or (space.weight_bits, space.input_bits)
    for name, quantizer, wanted in zip(("weights", "inputs"), (weights, inputs), chosen, strict=True):
        found = tuple(getattr(quantizer, "choices", ()))
        if set(wanted) - set(found) if fixed else found != tuple(wanted):
            raise ValueError(
                f"{name}: expected a quantizer for the bit widths of space {space.name}, {wanted or 'none to choose'}, "
                f"received {'none' if quantizer is None else found or quantizer.bits}"
            )


class _BitChoices:
    """Reads the bit widths of the convolutions of a block from a code.

    Args:
        space: `SearchSpace`.
        stage, block: place of the convolutions, None for head and feature layer.
    """

    def __init__(self, space: SearchSpace, stage: int | None = None, block: int | None = None) -> None:
        rows = [i for i, place in enumerate(space.convolutions()) if place[:2] == (stage, block)]
        self._fixed = None if space.fixed_bits is None else [space.fixed_bits[i] for i in rows]
        self._genes = space.bit_genes[rows] if space.weight_bits else None
        self._choices = (space.weight_bits, space.input_bits)

    def of(self, code: tf.Tensor | None) -> tf.Tensor | None:
        """int32 (convolutions, 2): bit widths of weights and inputs; None without a code or without a choice."""
        if self._fixed is not None:
            return tf.constant(self._fixed, tf.int32)
        if code is None or self._genes is None:
            return None
        weights, inputs = (tf.gather(c, tf.gather(code, self._genes[:, i])) for i, c in enumerate(self._choices))
        return tf.stack([weights, inputs], axis=1)


class _BlockChoices:
    """Reads the sizes of a block from a code."""

    def __init__(self, space: SearchSpace, block: Block) -> None:
        stage = space.stages[block.stage]
        self.out_channels = block.out_channels
        self.elastic = block.stage in space.searched
        self.bits = _BitChoices(space, block.stage, block.index)
        if not self.elastic:
            return
        # The block is part of the subnet from this index of the depth gene's choices on.
        self.optional_from = next(i for i, depth in enumerate(stage.depths) if depth > block.index)
        self.depth_gene = space.gene_index("depth", block.stage)
        self.kernel_gene = space.gene_index("kernel", block.stage, block.index)
        self.expand_gene = space.gene_index("expand", block.stage, block.index)
        self.kernels = stage.kernels
        self.hidden = space.hidden_choices(block.stage, block.index)
        self.squeezed = space.se_choices(block.stage, block.index)

    def sizes(self, kernel: tf.Tensor | None, expand: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """The size arguments of `ElasticMBConv` for indices of choices, without sizes that have a single choice."""
        sizes = {}
        # With a single choice the layer needs no slice.
        if kernel is not None and self.elastic and len(self.kernels) > 1:
            sizes["kernel_size"] = tf.gather(self.kernels, kernel)
        if expand is not None and self.elastic and len(self.hidden) > 1:
            sizes["hidden"] = tf.gather(self.hidden, expand)
            sizes["se_channels"] = tf.gather(self.squeezed, expand)
        return sizes

    def run(
        self,
        layer: ElasticMBConv,
        x: tf.Tensor,
        code: tf.Tensor | None,
        statistics: Sequence[tf.Tensor] | None,
        collect: bool,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The block's output and its list of statistics, which is empty without `collect`.

        The output is `x` itself if the network of `code` does not have this block.
        """
        sizes = {}
        if code is not None and self.elastic:
            sizes = self.sizes(code[self.kernel_gene], code[self.expand_gene])
        if (bits := self.bits.of(code)) is not None:
            sizes["bits"] = bits

        def compute() -> tuple[tf.Tensor, list[tf.Tensor]]:
            y = layer(x, statistics=statistics, collect=collect, **sizes)
            y, own = y if collect else (y, [])
            return tf.ensure_shape(y, (None, None, None, self.out_channels)), own

        def skip() -> tuple[tf.Tensor, list[tf.Tensor]]:
            return x, [tf.zeros((2, o.statistics_size)) for o in layer.observers] if collect else []

        if code is None or not self.elastic or not self.optional_from:
            return compute()
        return tf.cond(code[self.depth_gene] >= self.optional_from, compute, skip)


def initialize(model: keras.Model, images: Any, missing_only: bool = False) -> None:
    """Initialises all quantizers of `model` in one pass: weight quantizers from the weights, others from `images`.

    Call it after weights are loaded. The pass is eager, and computes the largest network of a supernet.

    Args:
        model: `Supernet` or any Keras model with tfqnas quantizers.
        images: float32 (batch, height, width, channels), normalised as in training, or what else the model takes; for
            several inputs a list in their order, or a dictionary by their names.
        missing_only: keep the parameters of quantizers that are already initialised.

    Raises:
        ValueError: these are no images, or there are none.
    """
    images = tf.nest.map_structure(tf.convert_to_tensor, images)
    for values in tf.nest.flatten(images):
        if not values.shape or not values.shape[0]:
            raise ValueError(
                f"initialize: expected images (n, height, width, channels), received {tuple(values.shape)}"
            )
    # Augmentation layers of Keras are active in a plain call.
    settings = {} if isinstance(model, Supernet) else {"training": False}
    with initializing(missing_only):
        model(images, **settings)
