"""Changes what images a model takes: their size, and how their pixels are normalised."""

from collections.abc import Sequence

import keras

from tfqnas.errors import UserError
from tfqnas.graph.rebuilding import rebuilt


def with_input_size(model: keras.Model, size: Sequence[int] | None = None) -> keras.Model:
    """A copy of a convolutional model, with its weights and quantizers, for images of another size.

    Args:
        model: functional `keras.Model` with one image input, such as those of `tfqnas.zoo`, quantized or not.
        size: (height, width) in pixels, as an export needs it, or None for images of any size.

    Raises:
        UserError: the model is of another kind, or cannot take this size.
    """
    wanted: tuple[int | None, ...] = (None, None) if size is None else tuple(size)
    if not isinstance(model, keras.Model) or len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UserError(f"with_input_size: expected a model with one image input, received {model!r}")
    if len(wanted) != 2 or any(length is not None and length < 1 for length in wanted):
        raise UserError(f"with_input_size: expected a height and a width in pixels, or None, received {wanted}")
    try:
        return rebuilt(model, input_shape=(*wanted, model.inputs[0].shape[-1]))
    except ValueError as error:
        raise UserError(f"{model.name} cannot take images of {wanted}: {error}") from None


def with_normalization(model: keras.Model, mean: float, divisor: float) -> keras.Model:
    """A copy of a model that takes `(pixel - 128) / 128`, as all commands give it, in place of its own pixels.

    The copy begins with a rescaling, which the exporter makes the scale and zero point of the input.

    Args:
        model: functional or Sequential `keras.Model` with one image input.
        mean, divisor: the model takes `(pixel - mean) / divisor`, so 0 and 255 for `pixel / 255`, and 0 and 1 for
            pixels from 0 to 255.

    Raises:
        UserError: the model has several inputs, or the divisor is not positive.
    """
    if len(model.inputs) != 1:
        raise UserError(f"with_normalization: expected a model with one input, {model.name} has {len(model.inputs)}")
    if not divisor > 0:
        raise UserError(f"with_normalization: expected a positive divisor, received {divisor}")
    images = keras.Input(model.inputs[0].shape[1:], name="image")
    pixels = keras.layers.Rescaling(128 / divisor, (128 - mean) / divisor, name="pixels")(images)
    return rebuilt(keras.Model(images, model(pixels), name=model.name))
