"""Changes the image size of a model, which its weights do not depend on."""

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
