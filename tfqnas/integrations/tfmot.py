"""LSQ for tensorflow-model-optimization (tfmot), and conversion of its tf_keras models to Keras 3.

    import tensorflow_model_optimization as tfmot
    from tfqnas.integrations import tfmot as integration

    annotate = tfmot.quantization.keras.quantize_annotate_layer
    model = tf_keras.Sequential([annotate(tf_keras.layers.Dense(10, input_shape=(64,)), integration.lsq(bits=4))])
    model = integration.quantize_apply(model)       # or tfmot's, inside its quantize_scope
    model.compile(...), model.fit(...), model.save(...)
    model = integration.to_keras3(model)            # a Keras 3 model with tfqnas' layers and quantizers

The first batch of a training or `initialize` sets the step sizes. Until then they and all outputs are NaN.
"""

import contextvars
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from tfqnas.errors import UnsupportedModelError, UserError
from tfqnas.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, Quantize
from tfqnas.quantizers import LSQ, Calibrated, CalibratedWeights, Codes, Quantizer, integer_range
from tfqnas.quantizers.lsq import MIN_STEP, MinimumStep, first_step

_TFMOT = tfmot.quantization.keras
_SETTING = contextvars.ContextVar("tfqnas_tfmot_setting", default=False)
# Activations whose output is never below zero.
_UNSIGNED = ("relu", "relu6", "sigmoid", "softmax", "hard_sigmoid", "softplus")
_KERNELS = ("depthwise_kernel", "kernel")


# -- LSQ for models of tf_keras ---------------------------------------------------------------------------------------


@tf_keras.saving.register_keras_serializable("tfqnas")
class LSQQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """LSQ (`tfqnas.quantizers.lsq`) as a quantizer of tfmot, with a learned scalar step.

    Args:
        bits: 2 to 16.
        signed: whether codes are signed. None lets the values that set the step decide, as in `tfqnas.quantizers.LSQ`:
            codes are unsigned if no value is below zero, or if that has the smaller error.
        batched: whether the first axis counts examples. N in the gradient's scale `1 / sqrt(N * Qp)` is then the number
            of elements of one example.
    """

    def __init__(self, bits: int, signed: bool | None = None, batched: bool = False) -> None:
        for candidate in (True, False):
            integer_range(bits, candidate)  # raises for other bits
        self.bits, self.signed, self.batched = bits, signed, batched

    def build(self, tensor_shape: Any, name: str, layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
        """Makes the layer's float32 scalar variables `{"step": ..., "signed": ...}`, the latter if `signed` is None."""
        _own_weights_first(layer)
        unset = tf_keras.initializers.Constant(float("nan"))
        weights = {"step": layer.add_weight(f"{name}_step", (), initializer=unset, constraint=MinimumStep())}
        if self.signed is None:
            weights["signed"] = layer.add_weight(f"{name}_signed", (), initializer=unset, trainable=False)
        return weights

    def __call__(self, inputs: Any, training: bool, weights: dict[str, tf.Variable], **kwargs: Any) -> tf.Tensor:
        """Fake-quantizes float32 `inputs` of any shape. In training it also sets a step that is not set yet."""
        x = tf.convert_to_tensor(inputs)
        if _SETTING.get():
            self._set(x, weights)
        elif training and tf.distribute.get_strategy().num_replicas_in_sync == 1:
            tf.cond(tf.math.is_nan(weights["step"]), lambda: self._set(x, weights), lambda: False)
        if self.signed is not None:
            return self._computed(x, weights["step"], self.signed)
        return tf.cond(
            tf.greater(weights["signed"], 0.5),  # False if it is not set, when the step is NaN
            lambda: self._computed(x, weights["step"], True),
            lambda: self._computed(x, weights["step"], False),
        )

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "signed": self.signed, "batched": self.batched}

    def _computed(self, x: tf.Tensor, step: Any, signed: bool) -> tf.Tensor:
        codes = Codes(self.bits, *integer_range(self.bits, signed), signed, False)
        return LSQ.compute(x, {"step": tf.convert_to_tensor(step)}, codes, self.batched)

    def _set(self, x: tf.Tensor, weights: dict[str, tf.Variable]) -> bool:
        signed = self.signed
        if signed is None:
            signed = self._better_sign(x)
            weights["signed"].assign(tf.cast(signed, tf.float32))
        step = tf.where(signed, *(_first_step(x, self.bits, candidate) for candidate in (True, False)))
        weights["step"].assign(tf.reshape(step, ()))
        return True

    def _better_sign(self, x: tf.Tensor) -> tf.Tensor:
        def error(signed: bool) -> tf.Tensor:
            step = _first_step(x, self.bits, signed)
            return tf.reduce_mean(tf.square(self._computed(x, step, signed) - x))

        return tf.logical_and(tf.reduce_min(x) < 0.0, error(True) < error(False))


def _first_step(v: tf.Tensor, bits: int, signed: bool) -> tf.Tensor:
    """`quantizers.lsq.first_step`, also in a graph, float32 scalar."""
    qn, qp = integer_range(bits, signed)
    return tf.numpy_function(lambda x: np.float32(max(first_step(x, qn, qp), MIN_STEP)), [v], tf.float32)


def _own_weights_first(layer: tf_keras.layers.Layer) -> None:
    """Puts the wrapped layer's weights before those of its quantizers, the order for a wrapped layer that was built.

    A wrapper that is restored from a file has no built layer, and would have another order, by which .h5 and .keras
    files are read. tfmot's own quantizers are not affected, since they have no trainable weights.
    """
    inner = getattr(layer, "layer", None)
    if inner is not None:
        known = {id(v) for v in layer._trainable_weights}
        layer._trainable_weights.extend(v for v in inner.trainable_weights if id(v) not in known)


@tf_keras.saving.register_keras_serializable("tfqnas")
class LSQConfig(tfmot.quantization.keras.QuantizeConfig):
    """The `QuantizeConfig` that `lsq` returns; the arguments are as in `lsq`."""

    def __init__(
        self, bits: int = 4, output_bits: int | None = None, outputs: bool | None = None, signed: bool | None = None
    ) -> None:
        self.bits, self.output_bits, self.outputs, self.signed = bits, output_bits, outputs, signed
        self._weights = LSQQuantizer(bits, signed=True)
        LSQQuantizer(output_bits or bits, signed)  # raises for wrong arguments

    def get_weights_and_quantizers(self, layer: tf_keras.layers.Layer) -> list[tuple[Any, LSQQuantizer]]:
        return [(getattr(layer, name), self._weights) for name in _kernel_of(layer)]

    def set_quantize_weights(self, layer: tf_keras.layers.Layer, quantize_weights: list[tf.Tensor]) -> None:
        for name, value in zip(_kernel_of(layer), quantize_weights, strict=True):
            setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: tf_keras.layers.Layer) -> list[tuple[Any, LSQQuantizer]]:
        return []  # the output of the activation is the layer's output

    def set_quantize_activations(self, layer: tf_keras.layers.Layer, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: tf_keras.layers.Layer) -> list[LSQQuantizer]:
        outputs = _has_last_word(layer) if self.outputs is None else self.outputs
        if not outputs:
            return []
        signed = self.signed
        if signed is None and (_activation_of(layer) in _UNSIGNED or _is_plain_relu(layer)):
            signed = False
        return [LSQQuantizer(self.output_bits or self.bits, signed, batched=True)]

    def get_config(self) -> dict[str, Any]:
        names = ("bits", "output_bits", "outputs", "signed")
        return {name: getattr(self, name) for name in names}


def lsq(
    bits: int = 4, output_bits: int | None = None, outputs: bool | None = None, signed: bool | None = None
) -> LSQConfig:
    """A `QuantizeConfig` with LSQ of a layer's kernel and output, for tfmot's `quantize_annotate_layer`.

    Args:
        bits: bit width of the kernel, 2 to 16.
        output_bits: bit width of the output, by default the same.
        outputs: whether the output is quantized, after the activation. By default it is for layers with an activation
            and layers without weights (ReLU, Add, pooling). It is not for softmax and for linear convolutions, dense
            layers and BatchNorm, since BatchNorm, an activation or the end of the model follows them.
        signed: whether the output's codes reach below zero. By default they do not after ReLU and similar activations;
            elsewhere the first batch or `initialize` decides.

    Raises:
        ValueError: a bit width is out of range.
        UserError: when the config is applied to a layer whose weights are not in one kernel.
    """
    return LSQConfig(bits, output_bits, outputs, signed)


def quantize_apply(model: tf_keras.Model) -> tf_keras.Model:
    """`tfmot.quantization.keras.quantize_apply` with a check that every layer keeps its config.

    Raises:
        UnsupportedModelError: tfmot has dropped a layer's LSQ. The message names the layer and says what to do.
    """
    with _TFMOT.quantize_scope():
        quantized = _TFMOT.quantize_apply(model)
    # Before `quantize_apply` the config is held by `QuantizeAnnotate`, which is not a public name of tfmot.
    annotated = [layer for layer in model.layers if isinstance(getattr(layer, "quantize_config", None), LSQConfig)]
    present = {w.layer.name for w in quantized.layers if isinstance(getattr(w, "quantize_config", None), LSQConfig)}
    for annotation in annotated:
        if annotation.layer.name not in present:
            raise _unsupported(
                annotation.layer,
                "tfmot merges it with the ReLU layer after it and drops its config; set "
                'activation="relu" in the layer instead of using that layer',
            )
    return quantized


def initialize(model: tf_keras.Model, images: Any) -> None:
    """Sets the step sizes and undecided signs of all LSQ quantizers of a tf_keras model in one eager pass.

    It is needed for evaluation before any training, and for training on several replicas, where no batch sets them.

    Args:
        model: the quantized model.
        images: float32 (batch, ...), as in training.
    """
    token = _SETTING.set(True)
    try:
        model(tf.convert_to_tensor(images), training=False)
    finally:
        _SETTING.reset(token)


def save(model: tf_keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves a quantized model to a directory (SavedModel) or an .h5 file with `model.save`.

    Raises:
        UserError: the path is a .keras file. tf_keras would write it but fail to read it, since such files number the
            variables of a layer, and tfmot's wrapper and `QuantizeLayer` number them differently when restored.
    """
    if os.fspath(path).endswith(".keras"):
        raise UserError(
            f"{path}: a .keras file of tfmot's layers cannot be read again, since they number their variables "
            "differently then; save a SavedModel (a path without a suffix) or an .h5 file, or "
            "to_keras3(model)"
        )
    model.save(path)


def load(path: str | os.PathLike[str]) -> tf_keras.Model:
    """Loads the tf_keras model that `save` or `model.save` has written, inside tfmot's `quantize_scope`."""
    with _TFMOT.quantize_scope():
        return tf_keras.models.load_model(path)


def _kernel_of(layer: tf_keras.layers.Layer) -> list[str]:
    """The name of a layer's kernel in a list, which is empty for a layer without weights.

    Raises:
        UserError: the layer has other weights.
    """
    found = [name for name in _KERNELS if hasattr(layer, name)][:1]
    several = hasattr(layer, "pointwise_kernel")
    normalizes = isinstance(layer, tf_keras.layers.BatchNormalization)
    if several or (layer.weights and not found and not normalizes):
        raise UserError(
            f"layer {layer.name} ({type(layer).__name__}): lsq: expected a layer with one kernel, such as "
            "Conv2D, DepthwiseConv2D or Dense, or one without weights"
        )
    return found


def _has_last_word(layer: tf_keras.layers.Layer) -> bool:
    name = _activation_of(layer)
    return name not in ("linear", "softmax") if name else not layer.weights


def _activation_of(layer: tf_keras.layers.Layer) -> str:
    """The name of the activation inside a layer, "" without one."""
    if isinstance(layer, tf_keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # inside tfmot's QuantizeAwareActivation
    if activation is None:
        return ""
    name = getattr(activation, "__name__", type(activation).__name__)
    return "linear" if name == "NoOpActivation" else name


def _is_plain_relu(layer: tf_keras.layers.Layer) -> bool:
    return isinstance(layer, tf_keras.layers.ReLU) and not layer.negative_slope and layer.threshold >= 0


# -- models of tf_keras as models of Keras 3 --------------------------------------------------------------------------

# Supported layers, and the settings that are copied in addition to those of `_settings`.
_LAYERS = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "dilation_rate", "depth_multiplier", "use_bias"),
    "Dense": ("units", "use_bias"),
    "BatchNormalization": ("momentum", "epsilon", "center", "scale"),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Activation": (),
    "Softmax": ("axis",),
    "Add": (),
    "Multiply": (),
    "GlobalAveragePooling2D": ("keepdims",),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "ZeroPadding2D": ("padding",),
    "UpSampling2D": ("size", "interpolation"),
    "Flatten": (),
    "Reshape": ("target_shape",),
    "Dropout": ("rate",),
}
_QUANTIZED = {"Conv2D": QuantConv2D, "DepthwiseConv2D": QuantDepthwiseConv2D, "Dense": QuantDense}
# Activations with the same meaning in both. hard_sigmoid is missing, since Keras 3 defines it differently.
_ACTIVATIONS = ("linear", "relu", "relu6", "softmax", "sigmoid", "tanh", "swish", "silu")
_WRAPPERS = {
    "PruneLowMagnitude": "take its wrapper off by tfmot.sparsity.keras.strip_pruning first",
    "ClusterWeights": "take its wrapper off by tfmot.clustering.keras.strip_clustering first",
    "QuantizeAnnotate": "it is annotated, and not yet quantized: call quantize_apply first",
}


def to_keras3(model: tf_keras.Model) -> keras.Model:
    """Converts a tf_keras model prepared by tfmot to a functional Keras 3 model with the same inference.

    It takes models of `quantize_model` and `quantize_apply` with tfmot's quantizers or `lsq`, pruned and clustered
    models after `strip_pruning` and `strip_clustering`, and plain models. Weights, BatchNorm statistics, ranges and
    step sizes are copied. Quantized kernels become `QuantConv2D`, `QuantDepthwiseConv2D` and `QuantDense` layers with
    `CalibratedWeights` (whose ranges stay fixed, while tfmot's follow the weights) or `LSQ`. Quantized tensors become
    `Quantize` layers with `Calibrated` or `LSQ`. The result trains, is saved and is exported like any other model. Do
    not call `tfqnas.initialize`, which would replace its ranges and steps.

    Outputs are the same except for float rounding and ties, which tfmot's kernel rounds up and most of ours to even.

    Returns:
        `keras.Model` with the name of `model`; layers have the names that they had before tfmot.

    Raises:
        UnsupportedModelError: a layer or setting is not supported. The message has its name, type and the reason.
    """
    if not isinstance(model, tf_keras.Model):
        raise UnsupportedModelError(
            f"expected a model of tf_keras, received {type(model).__name__}; tfqnas.quantize takes models of Keras 3"
        )
    if not model.built or not (isinstance(model, tf_keras.Sequential) or hasattr(model, "input_names")):
        raise UnsupportedModelError(f"{model.name}: expected a functional or Sequential model that has been built")
    return _Reader(model).made()


class _Reader:
    """Repeats the layer calls of a tf_keras model in Keras 3."""

    def __init__(self, model: tf_keras.Model) -> None:
        self.source = model
        self.inputs: list[keras.KerasTensor] = []
        self.tensors: dict[tuple[Any, ...], keras.KerasTensor] = {}  # keyed by layer, call and index
        self.twins: dict[str, _Twin] = {}

    def made(self) -> keras.Model:
        if isinstance(self.source, tf_keras.Sequential):
            outputs = [self._sequence()]
        else:
            config = self.source.get_config()
            self._graph(config["layers"])
            outputs = [self.tensors[tuple(reference[:3])] for reference in _references(config["output_layers"])]
        if len(self.inputs) != 1 or len(outputs) != 1:
            raise UnsupportedModelError(
                f"{self.source.name}: expected one input and one output, received {len(self.inputs)} and {len(outputs)}"
            )
        model = keras.Model(self.inputs[0], outputs[0], name=self.source.name)
        for twin in self.twins.values():
            twin.take_over()
        return model

    def _sequence(self) -> keras.KerasTensor:
        tensor = self.source.inputs[0]
        x = self._input(tensor.shape, tensor.name)
        for layer in self.source.layers:
            x = self._called(layer, [x])
        return x

    def _graph(self, layers: list[dict[str, Any]]) -> None:
        waiting = [(entry["name"], *call) for entry in layers for call in enumerate(entry["inbound_nodes"] or [[]])]
        while waiting:
            later = []
            for name, number, node in waiting:
                layer, references = self.source.get_layer(name), _references(node)
                read = [tuple(reference[:3]) for reference in references]
                if isinstance(layer, tf_keras.layers.InputLayer):
                    self.tensors[name, 0, 0] = self._input(layer.output.shape, name)
                elif any(reference[3:] not in ([], [{}]) for reference in references):
                    self._twin(layer)  # raises first if the layer itself is not supported
                    raise _unsupported(layer, "it is called with more than tensors")
                elif all(key in self.tensors for key in read):
                    self.tensors[name, number, 0] = self._called(layer, [self.tensors[key] for key in read])
                else:
                    later.append((name, number, node))
            if len(later) == len(waiting):
                raise _unsupported(self.source.get_layer(later[0][0]), "no layer makes the tensor that it reads")
            waiting = later

    def _input(self, shape: tf.TensorShape, name: str) -> keras.KerasTensor:
        self.inputs.append(keras.Input(tuple(shape[1:]), name=_plain(name)))
        return self.inputs[-1]

    def _called(self, layer: tf_keras.layers.Layer, tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
        return self._twin(layer)(tensors)

    def _twin(self, layer: tf_keras.layers.Layer) -> "_Twin":
        if layer.name not in self.twins:
            self.twins[layer.name] = _Twin(layer)
        return self.twins[layer.name]


def _references(nested: Any) -> list[list[Any]]:
    """`[layer, call, index, arguments]` of each tensor, from lists of any nesting."""
    if nested and isinstance(nested[0], str):
        return [nested]
    return [reference for part in nested for reference in _references(part)]


class _Twin:
    """The sequence of Keras 3 layers for a layer of tf_keras and tfmot's wrapper around it.

    Args:
        layer: a layer of tf_keras, or tfmot's `QuantizeLayer` or `QuantizeWrapper`.
    """

    def __init__(self, layer: tf_keras.layers.Layer) -> None:
        kind = type(layer).__name__
        if kind in _WRAPPERS:
            raise _unsupported(layer, _WRAPPERS[kind])
        self.config: Any = getattr(layer, "quantize_config", None)
        self.source = layer.layer if self.config is not None else layer
        self.variables = {_plain(v.name.rpartition("/")[2]): v.numpy() for v in layer.weights}
        self.layers: list[keras.layers.Layer] = []
        self._parameters: list[tuple[keras.layers.Layer, np.ndarray]] = []  # for layers with one quantizer
        if kind == "QuantizeLayer":
            self._quantize(layer.quantizer, layer.name, layer.name)
        else:
            self._compute()

    def __call__(self, tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
        x = tensors if len(tensors) > 1 else tensors[0]
        for layer in self.layers:
            x = layer(x)
        return x

    def take_over(self) -> None:
        """Copies the values of the source's variables to the layers, which must have been called."""
        for layer in self.layers:
            own = {id(v) for quantizer in getattr(layer, "quantizers", ()) for v in quantizer.variables}
            for variable in layer.weights:
                if id(variable) not in own and not isinstance(layer, keras.layers.Dropout):
                    name = variable.name if variable.name in self.variables else f"depthwise_{variable.name}"
                    variable.assign(self.variables[name])
        for layer, value in self._parameters:
            (quantizer,) = layer.quantizers
            (variable,) = quantizer.variables
            variable.assign(value)

    def _compute(self) -> None:
        source, name = self.source, _plain(self.source.name)
        settings = _settings(source)
        activation = _activation_of(source) if hasattr(source, "activation") else None
        before = self._of_activation("pre_activation")
        if activation is not None:
            if activation not in _ACTIVATIONS:
                raise _unsupported(source, f"activation {activation}, expected one of {', '.join(_ACTIVATIONS)}")
            settings["activation"] = "linear" if before else activation
        kernel = self._of_kernel()
        if kernel is None:
            self.layers.append(getattr(keras.layers, type(source).__name__)(**settings))
        else:
            self.layers.append(_QUANTIZED[type(source).__name__](**settings, weight_quantizer=kernel[0]))
            self._parameters.append((self.layers[0], kernel[1]))
        if before is not None:
            self._quantize(before, "pre_activation", f"{name}_before")
            self.layers.append(keras.layers.Activation(activation, name=f"{name}_activation"))
        if (behind := self._of_activation("post_activation")) is not None:
            self._quantize(behind, "post_activation", f"{name}_behind")
        for quantizer in self.config.get_output_quantizers(source) if self.config is not None else ():
            self._quantize(quantizer, "output", f"{name}_output")

    def _of_activation(self, where: str) -> Any:
        """tfmot's quantizer before or after the activation inside the layer, or None."""
        if not any(name.startswith(f"{where}_") for name in self.variables):
            return None
        ((_, quantizer),) = self.config.get_activations_and_quantizers(self.source)
        return quantizer

    def _of_kernel(self) -> tuple[Quantizer, np.ndarray] | None:
        """The quantizer of the kernel and the value of its variable, or None."""
        found = self.config.get_weights_and_quantizers(self.source) if self.config is not None else []
        found = [quantizer for _, quantizer in found if not _is(quantizer, "NoQuantizer")]
        name = next((name for name in _KERNELS if name in self.variables), None)
        if not found:
            return None
        if len(found) > 1 or name is None or type(self.source).__name__ not in _QUANTIZED:
            expected = ", ".join(_QUANTIZED)
            raise _unsupported(self.source, f"its weights are quantized, expected that of the kernel of {expected}")
        if isinstance(found[0], LSQQuantizer):
            return LSQ(found[0].bits), self._step(name)
        low, high, bits = self._range(found[0], name)
        if not found[0].narrow_range or not np.allclose(low, -high, rtol=1e-5) or not (high > 0).all():
            raise _unsupported(
                self.source,
                f"{name}: its quantizer ({type(found[0]).__name__}) has another range than "
                "one around zero without the lowest code",
            )
        if high.size == 1:
            return CalibratedWeights(bits), np.reshape(high, ())
        return CalibratedWeights(bits, axis=-1, channels=high.size), np.asarray(high)

    def _quantize(self, quantizer: Any, prefix: str, name: str) -> None:
        """Appends a layer that quantizes the output so far."""
        if quantizer is None or _is(quantizer, "NoQuantizer"):
            return
        if isinstance(quantizer, LSQQuantizer):
            step, signed = self._step(prefix), quantizer.signed
            if signed is None:
                signed = bool(self.variables[f"{prefix}_signed"] > 0.5)
            self.layers.append(Quantize(LSQ(quantizer.bits, signed=signed), name=name))
            self._parameters.append((self.layers[-1], step))
            return
        low, high, bits = self._range(quantizer, prefix)
        if np.array_equal(low, high):
            raise _unsupported(self.source, f"{prefix}: its range is not set: train")
        if quantizer.narrow_range or low.size > 1 or not low <= 0 < high or bits > 8:
            raise _unsupported(
                self.source,
                f"{prefix}: its quantizer ({type(quantizer).__name__}, {bits} bits) has "
                f"the range {low} to {high}, expected a single one, with zero, of up to 8 bits and all "
                "codes",
            )
        self.layers.append(Quantize(Calibrated(bits, fixed=(float(low), float(high))), name=name))

    def _step(self, prefix: str) -> np.ndarray:
        step = self.variables[f"{prefix}_step"]
        if np.isnan(step):
            raise _unsupported(self.source, f"the step size of its {prefix} is not set: train, or call initialize")
        return step

    def _range(self, quantizer: Any, prefix: str) -> tuple[np.ndarray | np.float32, np.ndarray | np.float32, int]:
        """`(low, high, bits)` of a quantizer of tfmot."""
        if _is(quantizer, "FixedQuantizer"):  # its kernel always has 8 bits
            return np.float32(quantizer.init_min), np.float32(quantizer.init_max), 8
        if f"{prefix}_min" not in self.variables or f"{prefix}_max" not in self.variables:
            known = "those of tfmot that learn a range, or lsq"
            raise _unsupported(self.source, f"{prefix}: quantizer {type(quantizer).__name__}, expected {known}")
        return self.variables[f"{prefix}_min"], self.variables[f"{prefix}_max"], quantizer.num_bits


def _settings(layer: tf_keras.layers.Layer) -> dict[str, Any]:
    """The arguments of the Keras 3 layer, without the activation.

    Raises:
        UnsupportedModelError: the type of the layer or a setting is not supported.
    """
    kind, config = type(layer).__name__, layer.get_config()
    if kind not in _LAYERS:
        raise _unsupported(layer, f"expected one of {', '.join(_LAYERS)}")
    for setting, only in (("dtype", "float32"), ("data_format", "channels_last"), ("renorm", False)):
        if config.get(setting, only) != only:
            raise _unsupported(layer, f"{setting} {config[setting]}, expected {only}")
    if kind == "BatchNormalization" and list(np.ravel(config["axis"])) != [len(layer.input.shape) - 1]:
        raise _unsupported(layer, f"axis {config['axis']}, expected the last one")
    settings = {name: config[name] for name in ("name", "trainable", *_LAYERS[kind]) if name in config}
    # ReLU has arrays as settings.
    settings = {name: value.item() if isinstance(value, np.ndarray) else value for name, value in settings.items()}
    settings["name"] = _plain(settings["name"])
    for name, given in config.items():
        if name.endswith(("_regularizer", "_constraint")) and given is not None:
            room = keras.regularizers if name.endswith("_regularizer") else keras.constraints
            try:
                settings[name] = room.get({"class_name": given["class_name"], "config": given["config"]})
            except (TypeError, ValueError, KeyError):
                raise _unsupported(layer, f"{name} {given}, which Keras 3 does not have") from None
    return settings


def _is(thing: Any, name: str) -> bool:
    """Whether an object is of the class of tfmot with this name, which is not public."""
    return any(kind.__name__ == name and kind.__module__.startswith(tfmot.__name__) for kind in type(thing).__mro__)


def _plain(name: str) -> str:
    """A name without the index of a tensor, and without slashes, which Keras 3 does not accept."""
    return name.partition(":")[0].replace("/", "_")


def _unsupported(layer: tf_keras.layers.Layer, why: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"layer {layer.name} ({type(layer).__name__}): {why}")
