"""Builds or loads networks by name."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfqnas import zoo
from tfqnas.errors import UserError, did_you_mean
from tfqnas.zoo import classifiers, segmenters, super_resolution

_BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "mobilenet_small": classifiers.mobilenet_small,
    "resnet_small": classifiers.resnet_small,
    "edsr": super_resolution.edsr,
    "srresnet": super_resolution.srresnet,
    "segmenter_small": segmenters.segmenter_small,
}


def build(name: str, **settings: Any) -> keras.Model:
    """Builds a network with random weights.

    Args:
        name: one of `tfqnas.zoo.NAMES`.
        settings: arguments of the function with this name in `tfqnas.zoo.classifiers`,
            `tfqnas.zoo.segmenters` or `tfqnas.zoo.super_resolution`, all of which have defaults.

    Returns:
        Functional `keras.Model` that `tfqnas.quantize` accepts.

    Raises:
        UserError: the name is unknown, or the network does not have a setting.
    """
    if name not in zoo.NAMES:
        hint = did_you_mean(name, zoo.NAMES)
        raise UserError(f"net: expected one of {', '.join(zoo.NAMES)}, received {name!r}{hint}")
    known = inspect.signature(_BUILDERS[name]).parameters
    if unknown := sorted(set(settings) - set(known)):
        raise UserError(f"net {name}: expected settings of {', '.join(known)}, received {', '.join(unknown)}")
    return _BUILDERS[name](**settings)


def load(name: str) -> keras.Model:
    """Loads a network with trained weights.

    Args:
        name: "efficientnet_lite0" (ImageNet, 1,000 classes).

    Returns:
        Functional `keras.Model` that `tfqnas.quantize` accepts, from images float32 (n, 224, 224, 3),
        `(x - 128) / 128`, to logits.

    Raises:
        UserError: the name is unknown, or the package with the weights is not installed.
    """
    if name != "efficientnet_lite0":
        raise UserError(
            f"net: expected efficientnet_lite0, received {name!r}; tfqnas.zoo.build makes "
            f"{', '.join(zoo.NAMES)} without trained weights"
        )
    from tfqnas.zoo import efficientnet

    return efficientnet.load()
