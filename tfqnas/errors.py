"""Errors whose message is meant for the person who started a tool: no traceback is printed for them."""


class UserError(Exception):
    """Says what is wrong, where, what was expected and what was received."""


class TrainingDivergedError(UserError):
    """A loss or a gradient that is not finite."""


class UnsupportedModelError(UserError):
    """A Keras model, or a layer of it, that has no integer form; the message names layer and type."""


class NoIntegersError(TypeError):
    """A quantizer whose values are no integers times one step."""
