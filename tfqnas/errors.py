"""Errors with a message for the user. Commands print the message without a traceback.

Names of settings stand in backquotes in a message, alone or with a value: `batch_size`, `bits=4`. The command line
writes them as its flags.
"""

import difflib
import errno
import os
from collections.abc import Iterable

_ADVICE = {
    errno.ENOSPC: "free space on that disk and repeat the command",
    errno.EDQUOT: "your quota there is used up: remove something and repeat the command",
    errno.EACCES: "choose a directory that you may write to",
    errno.EPERM: "choose a directory that you may write to",
    errno.EROFS: "choose a directory on a file system that can be written to",
}


def did_you_mean(received: object, known: Iterable[object]) -> str:
    """The hint ", did you mean NAME?" with the known name nearest to `received`, or "" if none is near."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(received).lower().replace("-", "_"), names, n=1, cutoff=0.4)
    return f", did you mean {near[0]}?" if near else ""


def as_text(value: object) -> str:
    """A value as it stands in a message and after a flag: several ones separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def explained(error: OSError, path: str | os.PathLike[str], what: str) -> OSError:
    """An `OSError` with the path, `what` has failed in words, and what to do."""
    advice = _ADVICE.get(error.errno or 0, "see whether its directory can be written to")
    reason = error.strerror or str(error)
    return OSError(error.errno or errno.EIO, f"{reason} ({what}; {advice})", os.fspath(path))


class UserError(Exception):
    """An error whose message says what is wrong and where, what was expected and what was received."""


class SettingError(UserError):
    """A setting that cannot have its value: "batch_size: expected a whole number from 1 on, received 0".

    Args:
        field: name of the setting. expected: in words. received: the value.
        hint: how the message goes on: what may be meant, or what to do.
    """

    def __init__(self, field: str, expected: str, received: object, hint: str = "") -> None:
        super().__init__(field, expected, received, hint)
        self.field, self.expected, self.received, self.hint = field, expected, received, hint

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, received {as_text(self.received) or 'nothing'}{self.hint}"


class TrainingDivergedError(UserError):
    """A loss, gradient or weight is not finite."""


class PartnerLostError(UserError):
    """Another process of a training on several hosts does not answer, or has ended.

    TensorFlow may still wait for it in a thread, so a program should then end by `os._exit`.
    """


class NotFiniteError(UserError):
    """Weights or results of a network are not finite."""


class UnsupportedModelError(UserError):
    """A Keras model or one of its layers has no integer form. The message names the layer and its type."""


class NoIntegersError(TypeError):
    """The values of a quantizer are not integers times a uniform step."""
