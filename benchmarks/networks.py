"""The networks of benchmarks/models.py: 19 of keras.applications, and 93 small ones of the kinds that people deploy.

A small network is a function of its input tensors. `network` says what these are: shapes, and how their values relate
to pixels. Weights are random; statistics of BatchNorm are those of the inputs, so that results depend on the images.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

layers, ops = keras.layers, keras.ops
SIGNED, UNIT, BYTES, OTHER = (128.0, 128.0), (0.0, 255.0), (0.0, 1.0), "calibrated"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network. `inputs`: `{name: (shape, normalization)}`; `build`: a function without arguments that returns it."""

    name: str
    kind: str
    build: Callable[[], Any]
    inputs: dict[str, tuple[tuple[int, ...], Any]]


SMALL: dict[str, Network] = {}


def network(kind: str, shape: tuple[int, ...] = (24, 24, 3), normalization: Any = SIGNED, **more: Any) -> Callable:
    """Registers a function of tensors as a small network; `more` has `name=(shape, normalization)` of other inputs."""

    def register(function: Callable) -> Callable:
        inputs = {"image": (shape, normalization), **more}

        def build() -> Any:
            tensors = [keras.Input(size, name=name) for name, (size, _) in inputs.items()]
            return keras.Model(tensors if more else tensors[0], function(*tensors))

        SMALL[function.__name__] = Network(function.__name__, kind, build, inputs)
        return function

    return register


def conv(x: Any, filters: int = 16, size: Any = 3, strides: int = 1, **settings: Any) -> Any:
    """A convolution with the usual settings."""
    return layers.Conv2D(filters, size, strides, padding="same", **settings)(x)


def cbr(x: Any, filters: int = 16, size: Any = 3, strides: int = 1, activation: Any = "relu", **settings: Any) -> Any:
    """Convolution, BatchNorm, activation."""
    x = layers.BatchNormalization()(conv(x, filters, size, strides, use_bias=False, **settings))
    return x if activation is None else layers.Activation(activation)(x)


def depthwise(x: Any, size: int = 3, strides: int = 1, activation: Any = "relu", **settings: Any) -> Any:
    """Depthwise convolution, BatchNorm, activation."""
    x = layers.DepthwiseConv2D(size, strides, "same", use_bias=False, **settings)(x)
    x = layers.BatchNormalization()(x)
    return x if activation is None else layers.Activation(activation)(x)


def head(x: Any, classes: int = 10, **settings: Any) -> Any:
    """Global average and a dense layer."""
    return layers.Dense(classes, **settings)(layers.GlobalAveragePooling2D()(x))


def bottleneck(x: Any, filters: int, strides: int = 1, expansion: int = 3, activation: Any = "relu6") -> Any:
    """The inverted residual of MobileNetV2."""
    y = cbr(x, x.shape[-1] * expansion, 1, activation=activation)
    y = cbr(depthwise(y, 3, strides, activation), filters, 1, activation=None)
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y


def squeeze_excite(x: Any, gate: str = "sigmoid", dense: bool = False) -> Any:
    """Squeeze-excite with convolutions, or with dense layers and a reshape."""
    n = x.shape[-1]
    if dense:
        s = layers.Dense(n, gate)(layers.Dense(n // 4, "relu")(layers.GlobalAveragePooling2D()(x)))
        return layers.Multiply()([x, layers.Reshape((1, 1, n))(s)])
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, conv(conv(s, n // 4, 1, activation="relu"), n, 1, activation=gate)])


# -- Classifiers -------------------------------------------------------------------------------------------------


@network("classifier")
def plain(x):
    return head(cbr(cbr(x), 32, strides=2))


@network("classifier")
def lenet(x):
    x = layers.MaxPooling2D()(conv(x, 6, 5, activation="tanh"))
    x = layers.Flatten()(layers.AveragePooling2D(2)(conv(x, 16, 5, activation="tanh")))
    return layers.Dense(10, "softmax")(layers.Dense(32, "tanh")(x))


@network("classifier")
def vgg_like(x):
    for filters in (16, 32):
        x = layers.MaxPooling2D()(conv(conv(x, filters, activation="relu"), filters, activation="relu"))
    return layers.Dense(10)(layers.Dropout(0.5)(layers.Dense(64, "relu")(layers.Flatten()(x))))


@network("classifier")
def mobilenet_v1(x):
    x = cbr(x, 8, strides=2, activation="relu6")
    for filters, strides in ((16, 1), (32, 2), (32, 1)):
        x = cbr(depthwise(x, 3, strides, "relu6"), filters, 1, activation="relu6")
    return head(x, activation="softmax")


@network("classifier")
def mobilenet_v2(x):
    x = cbr(x, 8, strides=2, activation="relu6")
    for filters, strides in ((12, 1), (12, 1), (24, 2), (24, 1)):
        x = bottleneck(x, filters, strides)
    return head(cbr(x, 64, 1, activation="relu6"))


@network("classifier")
def mobilenet_v3(x):
    x = cbr(x, 8, strides=2, activation="hard_silu")
    for filters in (12, 12):
        y = depthwise(cbr(x, 24, 1, activation="hard_silu"), 5, activation="hard_silu")
        y = cbr(squeeze_excite(y, "hard_sigmoid"), filters, 1, activation=None)
        x = layers.Add()([x, y]) if x.shape[-1] == filters else y
    return head(layers.Activation("hard_silu")(conv(x, 64, 1)))


@network("classifier")
def efficientnet(x):
    x = cbr(x, 8, strides=2, activation="silu")
    for _ in range(2):
        y = squeeze_excite(depthwise(cbr(x, 24, 1, activation="silu"), activation="silu"))
        x = layers.Add()([x, layers.Dropout(0.1, noise_shape=(None, 1, 1, 1))(cbr(y, 8, 1, activation=None))])
    return head(cbr(x, 64, 1, activation="silu"))


@network("classifier")
def resnet_after(x):
    x = cbr(x)
    for filters, strides in ((16, 1), (32, 2)):
        y = cbr(cbr(x, filters, 3, strides), filters, activation=None)
        short = x if strides == 1 else conv(x, filters, 1, strides)
        x = layers.ReLU()(layers.Add()([short, y]))
    return head(x)


@network("classifier")
def resnet_before(x):
    x = conv(x)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = conv(layers.ReLU()(layers.BatchNormalization()(conv(y))))
        x = x + y
    return head(layers.ReLU()(layers.BatchNormalization()(x)))


@network("classifier")
def resnext(x):
    x = cbr(x, 32)
    y = cbr(cbr(cbr(x, 32, 1), 32, groups=8), 32, 1, activation=None)
    return head(layers.ReLU()(layers.Add()([x, y])))


@network("classifier")
def densenet(x):
    x = cbr(x)
    for _ in range(3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, conv(cbr(y, 16, 1), 8)])
    return head(layers.ReLU()(layers.BatchNormalization()(layers.AveragePooling2D(2)(conv(x, 16, 1)))))


@network("classifier")
def inception(x):
    x = cbr(x)
    pooled = cbr(layers.AveragePooling2D(3, 1, "same")(x), 8, 1)
    parts = [cbr(x, 8, 1), cbr(cbr(x, 8, 1), 8), cbr(cbr(cbr(x, 8, (1, 5)), 8, (5, 1)), 8), pooled]
    return head(layers.Concatenate()(parts))


@network("classifier")
def squeezenet(x):
    x = conv(x, 16, strides=2, activation="relu")
    for _ in range(2):
        s = conv(x, 8, 1, activation="relu")
        x = layers.Concatenate()([conv(s, 16, 1, activation="relu"), conv(s, 16, 3, activation="relu")])
    return layers.GlobalAveragePooling2D()(conv(layers.Dropout(0.5)(x), 10, 1, activation="relu"))


@network("classifier")
def shufflenet(x):
    x = cbr(x, 24, strides=2)
    for _ in range(2):
        one, other = ops.split(x, 2, axis=-1)
        other = cbr(depthwise(cbr(other, 12, 1), activation=None), 12, 1)
        x = layers.Concatenate()([one, other])
        x = layers.Permute((1, 2, 4, 3))(layers.Reshape((12, 12, 2, 12))(x))
        x = layers.Reshape((12, 12, 24))(x)
    return head(x)


@network("classifier")
def ghostnet(x):
    x = cbr(x, 16, strides=2)
    for _ in range(2):
        y = cbr(x, 8, 1)
        x = layers.Add()([x, layers.Concatenate()([y, depthwise(y)])])
    return head(x)


@network("classifier")
def xception(x):
    x = cbr(x, 16, strides=2)
    y = layers.BatchNormalization()(layers.SeparableConv2D(24, 3, padding="same", use_bias=False)(x))
    y = layers.SeparableConv2D(24, 3, padding="same", activation="relu", depth_multiplier=2)(layers.ReLU()(y))
    return head(layers.Add()([layers.MaxPooling2D(3, 2, "same")(y), cbr(x, 24, 1, 2, None)]))


@network("classifier")
def convnext(x):
    x = conv(x, 24, 4, 4)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(layers.DepthwiseConv2D(7, padding="same")(x))
        x = x + layers.Dense(24)(layers.Dense(48, "gelu")(y))
    return head(layers.LayerNormalization(epsilon=1e-6)(x))


@network("classifier")
def repvgg(x):
    x = cbr(x)
    sums = [cbr(x, activation=None), cbr(x, 16, 1, activation=None), layers.BatchNormalization()(x)]
    return head(layers.ReLU()(layers.Add()(sums)))


@network("classifier")
def highway(x):
    x = cbr(x)
    gate = conv(x, activation="sigmoid")
    return head(gate * conv(x, activation="relu") + (1.0 - gate) * x)


@network("classifier")
def cbam(x):
    x = cbr(x)
    pooled = [layers.GlobalAveragePooling2D(keepdims=True)(x), layers.GlobalMaxPooling2D(keepdims=True)(x)]
    squeeze, excite = layers.Conv2D(4, 1, activation="relu"), layers.Conv2D(16, 1)
    x = x * layers.Activation("sigmoid")(layers.Add()([excite(squeeze(p)) for p in pooled]))
    maps = layers.Concatenate()([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)])
    return head(x * conv(maps, 1, 7, activation="sigmoid"))


@network("classifier")
def dead_channels(x):
    norm = layers.BatchNormalization()
    y = norm(conv(x))
    norm.gamma.assign(np.where(np.arange(16) % 4, 1, 1e-12))
    return head(cbr(layers.ReLU()(y)))


# -- Activations, sums, normalization ----------------------------------------------------------------------------


def _with_activation(name: str, make: Callable) -> None:
    def function(x):
        return head(conv(make()(cbr(x, activation=None)), activation="relu"))

    function.__name__ = name
    network("activation")(function)


for _name in ("sigmoid", "tanh", "elu", "gelu", "silu", "exponential", "hard_sigmoid", "hard_silu"):
    _with_activation(f"with_{_name}", lambda _name=_name: layers.Activation(_name))
for _name, _make in {
    "leaky_relu": lambda: layers.LeakyReLU(0.1),
    "relu_with_a_slope_and_a_maximum": lambda: layers.ReLU(4.0, negative_slope=0.2),
    "relu_to_one": lambda: layers.ReLU(1.0),
    "prelu": lambda: layers.PReLU("random_uniform", shared_axes=[1, 2]),
    "absolute": lambda: abs,
}.items():
    _with_activation(f"with_{_name}", _make)


@network("sums")
def subtract(x):
    x = cbr(x)
    return head(layers.Subtract()([x, conv(x)]))


@network("sums")
def maximum_and_minimum(x):
    x = cbr(x)
    return head(layers.Minimum()([layers.Maximum()([conv(x), x]), conv(x, 16, 1)]))


@network("sums")
def several(x):
    x = cbr(x)
    y = layers.Add()([x, conv(x), conv(x, 16, 1)])
    return head(layers.Average()([y, x]) * layers.Multiply()([x, conv(x, activation="sigmoid"), x]))


@network("sums")
def constants(x):
    x = cbr(x) * np.linspace(0.5, 2, 16).astype(np.float32) + 0.3
    return head(layers.MaxPooling2D()(x) / 2.0 - 0.7)


@network("sums")
def unequal_branches(x):
    x = cbr(x)
    return head(layers.Add()([x, conv(x, kernel_initializer=keras.initializers.RandomNormal(stddev=0.004))]))


@network("normalization")
def layer_norm(x):
    return head(conv(layers.LayerNormalization(epsilon=1e-3)(conv(x)), activation="relu"))


@network("normalization")
def group_norm(x):
    return head(conv(layers.ReLU()(layers.GroupNormalization(4)(conv(x)))))


@network("normalization")
def unit_norm(x):
    return layers.UnitNormalization()(head(cbr(cbr(x)), 16))


@network("normalization")
def norm_after_dense(x):
    x = layers.Dense(32, "relu")(layers.Flatten()(layers.MaxPooling2D(3)(cbr(x))))
    return layers.Dense(10)(layers.Dropout(0.2)(layers.BatchNormalization()(x)))


# -- Shapes ------------------------------------------------------------------------------------------------------


@network("shapes")
def cropping_and_padding(x):
    x = layers.Cropping2D(((1, 2), (0, 3)))(cbr(layers.ZeroPadding2D(2)(x)))
    return head(conv(x, activation="relu"))


@network("shapes")
def permute(x):
    return layers.Dense(10)(layers.Flatten()(layers.Permute((3, 1, 2))(cbr(x, 8, strides=4))))


@network("shapes")
def space_to_depth(x):
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((12, 2, 12, 2, 3))(x))
    return head(cbr(layers.Reshape((12, 12, 12))(x)))


@network("shapes")
def slices(x):
    x = cbr(x)
    return head(conv(layers.Concatenate()([x[:, ::2, ::2], x[:, 1::2, 1::2]])))


@network("shapes")
def reflected(x):
    return head(layers.Conv2D(16, 3)(ops.pad(cbr(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")))


@network("shapes")
def dilated(x):
    return head(cbr(cbr(cbr(x), dilation_rate=2), dilation_rate=4))


@network("shapes")
def depth_multiplier(x):
    return head(conv(layers.ReLU()(layers.DepthwiseConv2D(3, depth_multiplier=4)(x)), 16, 1))


@network("shapes", (40, 16, 3))
def not_square(x):
    return head(cbr(cbr(x, strides=2), 32))


@network("shapes")
def repeated(x):
    x = layers.GlobalAveragePooling2D()(cbr(x, 8))
    return layers.Flatten()(layers.Conv1D(4, 3, padding="same")(layers.RepeatVector(6)(x)))


# -- Preprocessing and training only -----------------------------------------------------------------------------


@network("front", normalization=BYTES)
def rescaling_signed(x):
    return head(cbr(layers.Rescaling(1 / 127.5, -1)(x)))


@network("front", normalization=BYTES)
def rescaling_unit(x):
    return head(cbr(layers.Rescaling(1 / 255)(x)))


@network("front", normalization=UNIT)
def unit_inputs(x):
    return head(cbr(cbr(x)))


@network("front", normalization=BYTES)
def mean_and_deviation(x):
    return head(cbr(layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3411, 3262, 3291])(x)))


@network("front", normalization=BYTES)
def preprocessed_tf(x):
    return head(cbr(x / 127.5 - 1.0))


@network("front", normalization=BYTES)
def preprocessed_torch(x):
    return head(cbr(keras.applications.imagenet_utils.preprocess_input(x, mode="torch")))


@network("front", normalization=BYTES)
def preprocessed_caffe(x):
    return head(cbr(keras.applications.imagenet_utils.preprocess_input(x, mode="caffe")))


@network("front")
def augmented(x):
    x = layers.RandomRotation(0.1)(layers.RandomZoom(0.1)(layers.RandomFlip()(x)))
    return head(layers.SpatialDropout2D(0.1)(cbr(layers.GaussianNoise(0.1)(x))))


@network("front", normalization=BYTES)
def resized_inside(x):
    return head(cbr(layers.Resizing(16, 16)(layers.Rescaling(1 / 127.5, -1)(x))))


# -- Models in models, several inputs and outputs ----------------------------------------------------------------


def _base(shape: tuple[int, ...] = (24, 24, 3)) -> Any:
    inputs = keras.Input(shape)
    return keras.Model(inputs, cbr(bottleneck(cbr(inputs, 16, strides=2), 16), 32, 1), name="base")


@network("nested")
def transfer(x):
    base = _base()
    base.trainable = False
    return layers.Dense(5, "softmax")(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base(x))))


@network("nested")
def sequential_of_models(x):
    return keras.Sequential([_base(), layers.GlobalAveragePooling2D(), layers.Dense(5)], name="whole")(x)


@network("nested", normalization=BYTES)
def nested_twice(x):
    front = keras.Sequential([keras.Input((24, 24, 3)), layers.Rescaling(1 / 127.5, -1), layers.RandomFlip()])
    inner = keras.Sequential([keras.Input((24, 24, 3)), front, _base()], name="inner")
    return head(keras.Sequential([keras.Input((24, 24, 3)), inner, layers.Conv2D(8, 1)], name="outer")(x))


@network("nested", other=((24, 24, 3), SIGNED))
def siamese(x, other):
    base = _base()
    one, two = (layers.Dense(16)(layers.GlobalAveragePooling2D()(t)) for t in (base(x), base(other)))
    return layers.Dense(1, "sigmoid")(abs(one - two))


@network("nested", state=((7,), OTHER))
def image_and_state(x, state):
    x = layers.GlobalAveragePooling2D()(cbr(cbr(x, strides=2)))
    return layers.Dense(3)(layers.Dense(16, "relu")(layers.Concatenate()([x, layers.Dense(8, "relu")(state)])))


@network("nested")
def two_heads(x):
    x = cbr(cbr(x, strides=2))
    return {"age": layers.Dense(1, name="age")(layers.GlobalAveragePooling2D()(x)), "kind": head(x, 4, name="kind")}


# -- Segmentation, detection, images -----------------------------------------------------------------------------


def _encoded(x: Any) -> list[Any]:
    one = cbr(cbr(x, 8), 8)
    two = cbr(layers.MaxPooling2D()(one), 16)
    return [one, two, cbr(layers.MaxPooling2D()(two), 24)]


@network("segmentation")
def unet_transposed(x):
    one, two, three = _encoded(x)
    y = layers.Concatenate()([layers.Conv2DTranspose(16, 2, 2)(three), two])
    y = layers.Concatenate()([layers.Conv2DTranspose(8, 3, 2, "same")(cbr(y)), one])
    return conv(cbr(y, 8), 5, 1)


@network("segmentation")
def unet_upsampled(x):
    one, two, three = _encoded(x)
    y = cbr(layers.Concatenate()([layers.UpSampling2D()(three), two]))
    y = cbr(layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(y), one]), 8)
    return conv(y, 5, 1, activation="softmax")


@network("segmentation")
def deeplab(x):
    x = cbr(cbr(x, 16, strides=2), 24, strides=2)
    pooled = cbr(layers.GlobalAveragePooling2D(keepdims=True)(x), 16, 1)
    parts = [cbr(x, 16, 1), *(cbr(x, 16, dilation_rate=r) for r in (2, 4))]
    x = layers.Concatenate()([*parts, layers.UpSampling2D(6, interpolation="bilinear")(pooled)])
    return layers.Resizing(24, 24)(conv(cbr(x, 16, 1), 5, 1))


@network("segmentation")
def lr_aspp(x):
    low = cbr(x, 16, strides=2)
    high = bottleneck(cbr(low, 24, strides=2), 24)
    gate = conv(layers.GlobalAveragePooling2D(keepdims=True)(high), 16, 1, activation="sigmoid")
    y = layers.UpSampling2D(interpolation="bilinear")(cbr(high, 16, 1) * gate)
    return layers.Add()([conv(low, 5, 1), conv(y, 5, 1)])


@network("segmentation")
def fcn(x):
    _, two, three = _encoded(x)
    y = layers.Conv2DTranspose(5, 4, 2, "same")(conv(three, 5, 1))
    return layers.Conv2DTranspose(5, 4, 2, "same")(layers.Add()([y, conv(two, 5, 1)]))


@network("detection")
def ssd(x):
    x = cbr(cbr(x, strides=2), 24, strides=2)
    y = cbr(x, 32, strides=2)
    boxes = [layers.Reshape((-1, 4))(conv(t, 12)) for t in (x, y)]
    scores = [layers.Reshape((-1, 5))(conv(t, 15)) for t in (x, y)]
    scores = layers.Activation("sigmoid", name="scores")(layers.Concatenate(axis=1)(scores))
    return {"boxes": layers.Concatenate(axis=1, name="boxes")(boxes), "scores": scores}


@network("detection")
def yolo(x):
    x = cbr(x, 16, strides=2, activation="leaky_relu")
    y = cbr(x, 24, strides=2, activation="leaky_relu")
    up = layers.Concatenate()([layers.UpSampling2D()(cbr(y, 8, 1, activation="leaky_relu")), x])
    return [conv(cbr(t, activation="leaky_relu"), 18, 1) for t in (up, y)]


@network("detection")
def yolo_with_a_focus(x):
    parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = cbr(layers.Concatenate()(parts), activation="silu")
    one, other = ops.split(cbr(x, 16, 1, activation="silu"), 2, axis=-1)
    x = layers.Concatenate()([one, other, cbr(cbr(other, 8, activation="silu"), 8, activation="silu")])
    pools = [cbr(x, 16, 1, activation="silu")]
    for _ in range(2):
        pools.append(layers.MaxPooling2D(5, 1, "same")(pools[-1]))
    box, score = conv(layers.Concatenate()(pools), 4, 1), conv(layers.Concatenate()(pools), 3, 1, activation="sigmoid")
    return layers.Concatenate()([box, score])


@network("detection")
def centernet(x):
    x = cbr(cbr(cbr(x, strides=2), strides=2), 24)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2DTranspose(16, 4, 2, "same", use_bias=False)(x)))
    outputs = {
        "heat": conv(cbr(x), 3, 1, activation="sigmoid"),
        "size": conv(cbr(x), 2, 1),
        "shift": conv(cbr(x), 2, 1),
    }
    return outputs


@network("detection")
def pyramid(x):
    one = cbr(x, 16, strides=2)
    two = cbr(one, 24, strides=2)
    top = conv(two, 16, 1)
    down = layers.Add()([conv(one, 16, 1), layers.UpSampling2D()(top)])
    classes = layers.Conv2D(3, 3, padding="same", activation="sigmoid")
    tower = layers.Conv2D(16, 3, padding="same", activation="relu")
    return [classes(tower(t)) for t in (down, top)]


@network("images")
def super_resolution(x):
    from tfqnas.layers import DepthToSpace

    y = conv(conv(x, activation="relu"), activation="relu")
    return layers.Add()([DepthToSpace(2)(conv(y, 12)), layers.UpSampling2D(interpolation="bilinear")(x)])


@network("images")
def denoiser(x):
    y = conv(cbr(cbr(conv(x, activation="relu"))), 3)
    return layers.Subtract()([x, y])


@network("images")
def autoencoder(x):
    x = cbr(cbr(x, 16, strides=2), 8, strides=2)
    x = layers.Conv2DTranspose(16, 3, 2, "same", activation="relu")(x)
    return layers.Conv2DTranspose(3, 3, 2, "same", activation="tanh")(x)


# -- Sound, series, tables, attention ----------------------------------------------------------------------------


@network("sound", (49, 10, 1), OTHER)
def ds_cnn(x):
    x = cbr(x, 32, (10, 4), 2)
    for _ in range(2):
        x = cbr(depthwise(x), 32, 1)
    return layers.Dense(12, "softmax")(layers.Flatten()(layers.AveragePooling2D(x.shape[1:3])(x)))


@network("sound", (96, 64, 1), OTHER)
def spectrogram(x):
    return head(cbr(depthwise(cbr(x, 16, strides=2), strides=2), 32, 1), activation="sigmoid")


@network("sound", (640,), OTHER)
def anomaly(x):
    for units in (64, 64, 8, 64):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
    return layers.Dense(640)(x)


@network("series", (128, 6), OTHER)
def conv_1d(x):
    for filters in (16, 32):
        x = layers.MaxPooling1D()(layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(filters, 5)(x))))
    return layers.Dense(6, "softmax")(layers.GlobalAveragePooling1D()(x))


@network("series", (64, 4), OTHER)
def temporal(x):
    x = layers.Conv1D(16, 1)(x)
    for rate in (1, 2, 4):
        y = layers.Conv1D(16, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
        x = layers.Add()([x, layers.SpatialDropout1D(0.1)(layers.Conv1D(16, 1)(y))])
    return layers.Dense(2)(x[:, -1])


@network("series", (64, 4), OTHER)
def wavenet(x):
    x = layers.Conv1D(16, 1)(x)
    for rate in (1, 2):
        gate = layers.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        x = x + layers.Conv1D(16, 2, padding="causal", dilation_rate=rate, activation="tanh")(x) * gate
    return layers.Conv1D(1, 1)(x)


@network("series", (64, 4), OTHER)
def series_autoencoder(x):
    x = layers.Conv1D(16, 5, 2, "same", activation="relu")(x)
    x = layers.Conv1D(8, 5, 2, "same", activation="relu")(x)
    x = layers.Conv1DTranspose(16, 4, 2, "same", activation="relu")(x)
    return layers.Conv1DTranspose(4, 4, 2, "same")(x)


@network("series", (64, 4), OTHER)
def separable_series(x):
    x = layers.SeparableConv1D(16, 5, activation="relu")(x)
    x = layers.AveragePooling1D(2)(layers.DepthwiseConv1D(3, padding="same")(x))
    return layers.Dense(3)(layers.GlobalMaxPooling1D()(x))


@network("tables", (12,), OTHER)
def perceptron(x):
    return layers.Dense(3, "softmax")(layers.Dense(32, "relu")(layers.Dense(32, "relu")(x)))


@network("tables", (12,), OTHER)
def normalised_table(x):
    x = layers.Normalization(mean=np.linspace(-2, 4, 12), variance=np.linspace(1, 9, 12))(x)
    y = layers.Dense(24, "silu")(x)
    return layers.Dense(1)(layers.Add()([y, layers.Dense(24, "silu")(y)]))


def _attention(x: Any, heads: int = 2) -> Any:
    y = layers.LayerNormalization(epsilon=1e-5)(x)
    x = x + layers.MultiHeadAttention(heads, x.shape[-1] // heads)(y, y)
    y = layers.Dense(2 * x.shape[-1], "gelu")(layers.LayerNormalization(epsilon=1e-5)(x))
    return x + layers.Dense(x.shape[-1])(y)


@network("attention")
def vision_transformer(x):
    x = layers.Reshape((36, 24))(conv(x, 24, 4, 4))
    x = _attention(x + np.random.default_rng(0).normal(0, 0.3, (1, 36, 24)).astype(np.float32))
    return layers.Dense(5)(layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5)(x)))


@network("attention")
def mobilevit(x):
    x = cbr(x, 16, strides=2, activation="silu")
    y = conv(cbr(x, 16, activation="silu"), 24, 1)
    y = layers.Reshape((12, 12, 24))(_attention(layers.Reshape((144, 24))(y)))
    x = cbr(layers.Concatenate()([x, cbr(y, 16, 1, activation="silu")]), activation="silu")
    return head(x)


@network("attention", (32, 8), OTHER)
def attention_by_hand(x):
    q, k, v = (layers.Dense(16)(x) for _ in range(3))
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 4.0)
    return layers.Dense(4)(layers.GlobalAveragePooling1D()(ops.matmul(weights, v)))


# -- Applications ------------------------------------------------------------------------------------------------

_OF_BYTES = ("MobileNetV3", "EfficientNet", "ConvNeXt")
_APPLICATIONS = """
    MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large EfficientNetB0 EfficientNetB1 EfficientNetV2B0 ResNet50
    ResNet50V2 ResNet101 DenseNet121 DenseNet169 NASNetMobile InceptionV3 InceptionResNetV2 Xception VGG16 VGG19
    ConvNeXtTiny
"""


def _application(name: str) -> Network:
    shape = (96, 96, 3)
    normalization = BYTES if name.startswith(_OF_BYTES) else SIGNED

    def build() -> Any:
        settings = {"weights": None, "input_shape": shape, "classes": 100, "classifier_activation": None}
        return getattr(keras.applications, name)(**settings)

    return Network(name, "application", build, {"image": (shape, normalization)})


APPLICATIONS = {name: _application(name) for name in sorted(_APPLICATIONS.split())}


def inputs_of(network: Network, count: int, seed: int) -> list[np.ndarray]:
    """Values for the inputs, float32 (count, ...): images with some structure, and series that wander."""
    rng = np.random.default_rng(seed)
    found = []
    for shape, normalization in network.inputs.values():
        if normalization == OTHER:
            steps = rng.normal(0, 1, (count, *shape))
            values = np.cumsum(steps, axis=1) if len(shape) > 1 else 3 * steps + np.linspace(-2, 4, shape[0])
        else:
            coarse = rng.integers(0, 256, (count, -(-shape[0] // 4), -(-shape[1] // 4), shape[2]))
            fine = np.repeat(np.repeat(coarse, 4, 1), 4, 2)[:, : shape[0], : shape[1]]
            pixels = np.clip(fine + rng.integers(-30, 31, (count, *shape)), 0, 255)
            values = (pixels - normalization[0]) / normalization[1]
        found.append(values.astype(np.float32))
    return found


def lifelike(model: Any, values: list[np.ndarray], seed: int) -> None:
    """Gives all BatchNorms random factors and offsets, and the statistics of these inputs."""
    rng = np.random.default_rng(seed)
    norms = [layer for layer in _layers(model) if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        if norm.scale and norm.name and float(np.min(norm.gamma)) > 1e-6:
            norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        if norm.center:
            norm.beta.assign(rng.normal(0, 0.3, norm.beta.shape))
        norm.momentum = 0.0
    if norms:
        model(values if len(values) > 1 else values[0], training=True)


def _layers(model: Any) -> list[Any]:
    return [inner for layer in model.layers for inner in (_layers(layer) if hasattr(layer, "layers") else [layer])]
