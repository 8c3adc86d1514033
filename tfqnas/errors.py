"""Errors with a message for the user. Tools print the message without a traceback."""

import difflib
from collections.abc import Iterable


def did_you_mean(received: object, known: Iterable[object]) -> str:
    """The hint ", did you mean NAME?" with the known name nearest to `received`, or "" if none is near."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(received).lower().replace("-", "_"), names, n=1, cutoff=0.4)
    return f", did you mean {near[0]}?" if near else ""


class UserError(Exception):
    """An error whose message says what is wrong and where, what was expected and what was received."""


class TrainingDivergedError(UserError):
    """A loss, gradient or weight is not finite."""


class UnsupportedModelError(UserError):
    """A Keras model or one of its layers has no integer form. The message names the layer and its type."""


class NoIntegersError(TypeError):
    """The values of a quantizer are not integers times a uniform step."""
