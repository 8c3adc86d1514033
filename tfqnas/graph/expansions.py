"""Keras layers that compute several things, as functions that compute the same by several layers or operations.

An expansion takes a layer and returns a function of its inputs, or None if the layer needs none. The function makes
its layers once, so that a layer that is called several times shares them, and gives them the layer's weights.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfqnas.graph.keras_internals import count_of_inputs
from tfqnas.graph.rebuilding import unsupported
from tfqnas.layers import ReciprocalRoot, ScaleOffset

layers, ops = keras.layers, keras.ops
Expansion = Callable[[Any], Callable[..., Any] | None]
_EXPANSIONS: dict[Any, Expansion] = {}


def expands(*types: Any) -> Callable[[Expansion], Expansion]:
    """Registers the expansion of layers of exactly these types; a text is the name of a type."""

    def register(expansion: Expansion) -> Expansion:
        _EXPANSIONS.update(dict.fromkeys(types, expansion))
        return expansion

    return register


def expansion_of(layer: Any) -> Callable[..., Any] | None:
    """The function that computes a layer by several, or None."""
    found = _EXPANSIONS.get(type(layer)) or _EXPANSIONS.get(type(layer).__name__)
    return None if found is None else found(layer)


def _settings(layer: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def _given(layer: Any, *values: Any) -> None:
    """Sets the weights of a layer that has just been built."""
    layer.set_weights([np.asarray(value) for value in values if value is not None])


def _bias(layer: Any) -> Any:
    return layer.bias if layer.use_bias else None


# -- Convolutions ------------------------------------------------------------------------------------------------


@expands(layers.SeparableConv2D)
def _separable_conv_2d(layer: Any) -> Callable[..., Any]:
    shared = {**_settings(layer, "data_format"), "dtype": layer.dtype_policy}
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        **shared,
        **_settings(layer, "strides", "padding", "dilation_rate", "depth_multiplier"),
        use_bias=False,
        name=f"{layer.name}_depthwise",
    )
    pointwise = layers.Conv2D(
        layer.filters, 1, **shared, **_settings(layer, "use_bias", "activation"), name=f"{layer.name}_pointwise"
    )

    def call(x: Any) -> Any:
        y = pointwise(depthwise(x))
        _given(depthwise, layer.depthwise_kernel)
        _given(pointwise, layer.pointwise_kernel, _bias(layer))
        return y

    return call


def _as_image(x: Any) -> Any:
    """(steps, channels) as (1, steps, channels)."""
    steps, channels = x.shape[1:]
    return layers.Reshape((1, -1 if steps is None else steps, channels))(x)


def _as_series(x: Any) -> Any:
    """(1, steps, channels) as (steps, channels)."""
    _, steps, channels = x.shape[1:]
    return layers.Reshape((-1 if steps is None else steps, channels))(x)


def _one(layer: Any, name: str) -> tuple[int, int]:
    value = getattr(layer, name)
    return 1, *(value if isinstance(value, tuple | list) else (value,))


def _along(layer: Any, twin: Any, weights: Callable[[], Sequence[Any]] = tuple) -> Callable[..., Any]:
    """A layer of series by one of images of height 1."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise unsupported(layer, f"data format {layer.data_format}, expected channels_last")
    before = _causal_steps(layer)

    def call(x: Any) -> Any:
        x = _as_image(x)
        if before:
            x = layers.ZeroPadding2D(((0, 0), (before, 0)))(x)
        y = twin(x)
        if twin.weights:
            _given(twin, *weights())
        return y if len(y.shape) == 2 else _as_series(y)

    return call


def _causal_steps(layer: Any) -> int:
    """How many steps causal padding puts before a series."""
    if getattr(layer, "padding", None) != "causal":
        return 0
    return (layer.kernel_size[0] - 1) * layer.dilation_rate[0]


def _conv_settings(layer: Any, *names: str) -> dict[str, Any]:
    return {
        "kernel_size": _one(layer, "kernel_size"),
        "strides": _one(layer, "strides"),
        "dilation_rate": _one(layer, "dilation_rate"),
        "padding": "valid" if layer.padding == "causal" else layer.padding,
        "dtype": layer.dtype_policy,
        "name": layer.name,
        **_settings(layer, "use_bias", "activation", *names),
    }


@expands(layers.Conv1D)
def _conv_1d(layer: Any) -> Callable[..., Any]:
    twin = layers.Conv2D(**_conv_settings(layer, "filters", "groups"))
    return _along(layer, twin, lambda: (np.asarray(layer.kernel)[np.newaxis], _bias(layer)))


@expands(layers.DepthwiseConv1D)
def _depthwise_conv_1d(layer: Any) -> Callable[..., Any]:
    twin = layers.DepthwiseConv2D(**_conv_settings(layer, "depth_multiplier"))
    return _along(layer, twin, lambda: (np.asarray(layer.kernel)[np.newaxis], _bias(layer)))


@expands(layers.SeparableConv1D)
def _separable_conv_1d(layer: Any) -> Callable[..., Any]:
    twin = layers.SeparableConv2D(**_conv_settings(layer, "filters", "depth_multiplier"))
    kernels = layer.depthwise_kernel, layer.pointwise_kernel
    return _along(layer, twin, lambda: (*(np.asarray(k)[np.newaxis] for k in kernels), _bias(layer)))


@expands(layers.Conv1DTranspose)
def _conv_1d_transpose(layer: Any) -> Callable[..., Any]:
    if layer.output_padding is not None:
        raise unsupported(layer, f"output_padding {layer.output_padding}, expected None")
    twin = layers.Conv2DTranspose(**_conv_settings(layer, "filters"))
    return _along(layer, twin, lambda: (np.asarray(layer.kernel)[np.newaxis], _bias(layer)))


@expands(layers.MaxPooling1D, layers.AveragePooling1D)
def _pooling_1d(layer: Any) -> Callable[..., Any]:
    kind = layers.MaxPooling2D if isinstance(layer, layers.MaxPooling1D) else layers.AveragePooling2D
    twin = kind(_one(layer, "pool_size"), _one(layer, "strides"), layer.padding, name=layer.name)
    return _along(layer, twin)


@expands(layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D)
def _global_pooling_1d(layer: Any) -> Callable[..., Any]:
    average = isinstance(layer, layers.GlobalAveragePooling1D)
    kind = layers.GlobalAveragePooling2D if average else layers.GlobalMaxPooling2D
    twin, image = kind(keepdims=layer.keepdims, name=layer.name), _along(layer, kind(name=layer.name))
    return image if not layer.keepdims else lambda x: _as_series(twin(_as_image(x)))


@expands(layers.ZeroPadding1D)
def _zero_padding_1d(layer: Any) -> Callable[..., Any]:
    return _along(layer, layers.ZeroPadding2D(((0, 0), tuple(layer.padding)), name=layer.name))


@expands(layers.Cropping1D)
def _cropping_1d(layer: Any) -> Callable[..., Any]:
    return _along(layer, layers.Cropping2D(((0, 0), tuple(layer.cropping)), name=layer.name))


@expands(layers.UpSampling1D)
def _up_sampling_1d(layer: Any) -> Callable[..., Any]:
    return _along(layer, layers.UpSampling2D((1, layer.size), name=layer.name))


# -- Sums, products, activations ---------------------------------------------------------------------------------


@expands(layers.Add, layers.Multiply, layers.Maximum, layers.Minimum)
def _of_several(layer: Any) -> Callable[..., Any] | None:
    """Of three tensors and more, two at a time."""
    if count_of_inputs(layer) < 3:
        return None

    def call(tensors: Sequence[Any]) -> Any:
        result = tensors[0]
        for place, tensor in enumerate(tensors[1:]):
            name = layer.name if place + 2 == len(tensors) else f"{layer.name}_part{place}"
            result = type(layer)(name=name)([result, tensor])
        return result

    return call


@expands(layers.Average)
def _average(layer: Any) -> Callable[..., Any]:
    def call(tensors: Sequence[Any]) -> Any:
        return layers.Rescaling(1 / len(tensors), name=layer.name)(layers.Add(name=f"{layer.name}_sum")(tensors))

    return call


@expands(layers.Activation)
def _activation(layer: Any) -> Callable[..., Any] | None:
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ("silu", "swish"):
        return None
    gate = layers.Activation("sigmoid", name=f"{layer.name}_gate")
    product = layers.Multiply(name=layer.name)
    return lambda x: product([x, gate(x)])


@expands(layers.ReLU)
def _relu(layer: Any) -> Callable[..., Any] | None:
    """A slope below zero, and then a maximum."""
    if not layer.negative_slope or layer.max_value is None or layer.threshold:
        return None
    leaky = layers.LeakyReLU(layer.negative_slope, name=f"{layer.name}_slope")
    return lambda x: ops.minimum(leaky(x), float(layer.max_value))


@expands("StochasticDepth")
def _stochastic_depth(layer: Any) -> Callable[..., Any]:
    """Of `keras.applications`; it drops whole residual branches in training, and passes them in use."""
    return layers.Dropout(layer.drop_path_rate, noise_shape=(None, 1, 1, 1), name=layer.name)


@expands("CustomScaleLayer")
def _scaled_sum(layer: Any) -> Callable[..., Any]:
    """Of InceptionResNetV2 in `keras.applications`: `x + scale * y`."""
    scaled, total = layers.Rescaling(layer.scale, name=f"{layer.name}_scale"), layers.Add(name=layer.name)
    return lambda tensors: total([tensors[0], scaled(tensors[1])])


@expands("LayerScale")
def _layer_scale(layer: Any) -> Callable[..., Any]:
    """Of `keras.applications`, a trained factor for each channel."""
    return _scaled(layer, layer.gamma, None)


def _scaled(layer: Any, gamma: Any, beta: Any, name: str | None = None) -> Callable[..., Any]:
    twin = ScaleOffset(scale=gamma is not None, offset=beta is not None, name=name or layer.name)

    def call(x: Any) -> Any:
        y = twin(x)
        _given(twin, gamma, beta)
        return y

    return call


# -- Normalization -----------------------------------------------------------------------------------------------


def _normalized(x: Any, axes: Sequence[int], epsilon: float, name: str, centre: bool = True) -> Any:
    """`(x - mean) / sqrt(variance + epsilon)` over these axes; without `centre` the mean is taken as zero."""
    if centre:
        x = layers.Subtract(name=f"{name}_centred")([x, ops.mean(x, axis=axes, keepdims=True)])
    variance = ops.mean(layers.Multiply(name=f"{name}_squares")([x, x]), axis=axes, keepdims=True)
    root = ReciprocalRoot(name=f"{name}_root")(variance + epsilon)
    return layers.Multiply(name=f"{name}_normalized")([x, root])


@expands(layers.LayerNormalization)
def _layer_normalization(layer: Any) -> Callable[..., Any]:
    affine = _scaled(layer, layer.gamma if layer.scale else None, layer.beta if layer.center else None)

    def call(x: Any) -> Any:
        axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
        if [axis % len(x.shape) for axis in axes] != [len(x.shape) - 1]:
            raise unsupported(layer, f"axis {layer.axis}, expected the last one")
        y = _normalized(x, [len(x.shape) - 1], layer.epsilon, layer.name)
        return affine(y) if layer.scale or layer.center else y

    return call


@expands(layers.RMSNormalization)
def _rms_normalization(layer: Any) -> Callable[..., Any]:
    affine = _scaled(layer, layer.scale, None)

    def call(x: Any) -> Any:
        if layer.axis not in (-1, len(x.shape) - 1):
            raise unsupported(layer, f"axis {layer.axis}, expected the last one")
        return affine(_normalized(x, [len(x.shape) - 1], layer.epsilon, layer.name, centre=False))

    return call


@expands(layers.UnitNormalization)
def _unit_normalization(layer: Any) -> Callable[..., Any]:
    """`x / sqrt(sum of squares)`, which is that by the mean of the squares over the root of their number."""

    def call(x: Any) -> Any:
        axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
        if [axis % len(x.shape) for axis in axes] != [len(x.shape) - 1]:
            raise unsupported(layer, f"axis {layer.axis}, expected the last one")
        y = _normalized(x, [len(x.shape) - 1], 1e-12, f"{layer.name}_mean", centre=False)
        return layers.Rescaling(1 / math.sqrt(x.shape[-1]), name=layer.name)(y)

    return call


@expands(layers.GroupNormalization)
def _group_normalization(layer: Any) -> Callable[..., Any]:
    affine = _scaled(layer, layer.gamma if layer.scale else None, layer.beta if layer.center else None)

    def call(x: Any) -> Any:
        *places, channels = x.shape[1:]
        if layer.axis not in (-1, len(x.shape) - 1) or None in places:
            raise unsupported(layer, f"axis {layer.axis} of {x.shape[1:]}, expected the last one of known sizes")
        groups = channels if layer.groups == -1 else layer.groups
        y = layers.Reshape((math.prod(places), groups, channels // groups))(x)
        y = layers.Reshape(x.shape[1:])(_normalized(y, [1, 3], layer.epsilon, layer.name))
        return affine(y) if layer.scale or layer.center else y

    return call


# -- Attention ---------------------------------------------------------------------------------------------------


@expands(layers.MultiHeadAttention)
def _multi_head_attention(layer: Any) -> Callable[..., Any]:
    """Vaswani et al., 2017, section 3.2; the factor `1 / sqrt(key_dim)` is in the weights of the query."""
    heads, key, value = layer.num_heads, layer.key_dim, layer.value_dim
    dense = {
        part: layers.Dense(heads * size, use_bias=layer.use_bias, name=f"{layer.name}_{part}")
        for part, size in (("query", key), ("key", key), ("value", value))
    }
    factors = {"query": 1 / math.sqrt(key), "key": 1.0, "value": 1.0}

    def split(part: str, x: Any, size: int) -> Any:
        """(steps, channels) as (heads, steps, size)."""
        y = dense[part](x)
        own = getattr(layer, f"{part}_dense")
        weights = [np.asarray(w) * factors[part] for w in own.weights]
        _given(dense[part], weights[0].reshape(x.shape[-1], -1), *(w.reshape(-1) for w in weights[1:]))
        return ops.transpose(layers.Reshape((x.shape[1], heads, size))(y), (0, 2, 1, 3))

    def call(query: Any, value_: Any, key_: Any = None, **masks: Any) -> Any:
        key_ = value_ if key_ is None else key_
        wrong = [
            name for name in ("query_mask", "value_mask", "key_mask", "attention_mask") if masks.get(name) is not None
        ]
        if len(query.shape) != 3 or None in query.shape[1:] or wrong or masks.get("use_causal_mask"):
            raise unsupported(layer, "expected tensors of (steps, channels) of known sizes, without a mask")
        q, k, v = split("query", query, key), split("key", key_, key), split("value", value_, value)
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2)))
        y = ops.matmul(layers.Softmax(name=f"{layer.name}_softmax")(scores), v)
        y = layers.Reshape((query.shape[1], heads * value))(ops.transpose(y, (0, 2, 1, 3)))
        weights = layer.output_dense.get_weights()
        if "output" not in dense:
            dense["output"] = layers.Dense(weights[0].shape[-1], use_bias=layer.use_bias, name=layer.name)
        z = dense["output"](y)
        _given(dense["output"], weights[0].reshape(heads * value, -1), *weights[1:])
        return z

    return call
