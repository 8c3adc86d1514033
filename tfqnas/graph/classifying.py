"""What a Keras model takes and makes if it classifies images."""

import keras

from tfqnas.errors import UserError


def of_images(model: keras.Model) -> tuple[int, int]:
    """`(size, channels)` of the images that a classifier takes.

    Raises:
        UserError: it takes anything but square images of one size, or makes anything but one number for each class.
    """
    inputs, outputs = ([tuple(tensor.shape[1:]) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    one = inputs[0] if len(inputs) == 1 else ()
    if len(one) != 3 or None in one or one[0] != one[1]:
        received = " and ".join(map(str, inputs))
        raise UserError(f"`model`: expected square images of one size, {model.name} takes {received}")
    if len(outputs) != 1 or len(outputs[0]) != 1 or None in outputs[0]:
        received = " and ".join(map(str, outputs))
        raise UserError(f"`model`: expected one number for each class, {model.name} makes {received}")
    return one[0], one[2]
