"""Reads models that Keras 2 (tf_keras) has saved: SavedModel directories, and `.h5` files that Keras 3 refuses."""

import pathlib
import tempfile
import textwrap
import warnings
from typing import Any

import keras

from tfqnas.errors import UserError
from tfqnas.graph.rebuilding import rebuilt


class _DepthwiseConv2D:
    """Stands for the layer in files of Keras 2, whose configuration has settings that Keras 3 does not know."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.layers.Layer:
        known = {name: value for name, value in config.items() if name not in ("groups", "activity_regularizer")}
        return keras.layers.DepthwiseConv2D.from_config(known)


def load_model(path: str | pathlib.Path) -> keras.Model:
    """A Keras 3 model of a functional or Sequential model that Keras 2 has saved, with its weights.

    Args:
        path: a SavedModel directory, or a `.h5` or `.keras` file of Keras 2.

    Raises:
        UserError: tf_keras is not installed, or the model cannot be read, or has layers that Keras 3 does not have.
    """
    try:
        import tf_keras
    except ImportError:
        raise UserError(f"{path}: models of Keras 2 need the package tf_keras: pip install tf_keras") from None
    if not pathlib.Path(path).exists():
        raise UserError(f"{path}: there is no such file")
    try:
        old = tf_keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file causes any of them
        raise UserError(f"{path}: not a model of Keras 2 that can be loaded ({_short(error)})") from None
    with tempfile.TemporaryDirectory() as directory:
        file = f"{directory}/model.h5"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the format is old
                old.save(file, save_format="h5")
            own = {"DepthwiseConv2D": _DepthwiseConv2D}
            return rebuilt(keras.models.load_model(file, compile=False, custom_objects=own))
        except Exception as error:
            raise UserError(f"{path}: Keras 3 does not read what Keras 2 has saved ({_short(error)})") from None


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 300)
