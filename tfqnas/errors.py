"""Errors whose message is meant for the person who started a tool: no traceback is printed for them."""

import difflib
from collections.abc import Iterable


def did_you_mean(received: object, known: Iterable[object]) -> str:
    """ ", did you mean NAME?" with the known name nearest to what was received; "" where none is near."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(received).lower().replace("-", "_"), names, n=1, cutoff=0.4)
    return f", did you mean {near[0]}?" if near else ""


class UserError(Exception):
    """Says what is wrong, where, what was expected and what was received."""


class TrainingDivergedError(UserError):
    """A loss or a gradient that is not finite."""


class UnsupportedModelError(UserError):
    """A Keras model, or a layer of it, that has no integer form; the message names layer and type."""


class NoIntegersError(TypeError):
    """A quantizer whose values are no integers times one step."""
