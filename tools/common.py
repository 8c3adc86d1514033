"""What all tools share: flags made from a settings record, and errors without a traceback."""

import dataclasses
import importlib
import os
import sys
import typing

from absl import app, flags

from tfqnas.errors import UserError


def define_flags(config_class, holder=flags.FLAGS, **defaults):
    """Defines an absl flag for each field of a settings dataclass, in `holder`."""
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string, bool: flags.DEFINE_bool}
    for field in dataclasses.fields(config_class):
        default, text = defaults.get(field.name, field.default), field.metadata["help"]
        if typing.get_origin(field.type) is tuple:
            flags.DEFINE_list(field.name, [str(v) for v in default], text, flag_values=holder)
        else:
            define[field.type](field.name, default, text, flag_values=holder)


def from_flags(config_class, holder=flags.FLAGS):
    """The settings record that the flags in `holder` describe."""
    values = {}
    for field in dataclasses.fields(config_class):
        value = holder[field.name].value
        if typing.get_origin(field.type) is tuple:
            element = typing.get_args(field.type)[0]
            try:
                value = tuple(element(v) for v in value)
            except ValueError:
                raise UserError(
                    f"--{field.name}: expected {element.__name__}s separated by commas, received {','.join(value)}"
                ) from None
        values[field.name] = value
    return config_class(**values)


def import_tensorflow():
    """Imports TensorFlow without the lines on CUDA and oneDNN that it writes whatever its log level is.

    They come from C++ before logging is set up, so only the file descriptor can be silenced. A failing import
    still raises its exception. Tools call this when the settings are known to be right: it takes seconds.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        importlib.import_module("tfqnas")  # first: it sets what TensorFlow reads when it is imported
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def run(main):
    """Runs `main(argv)`: errors that are meant for the user end with their message and exit code 1."""

    def guarded(argv):
        try:
            main(argv)
        except (UserError, OSError) as error:
            sys.stdout.flush()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("\nstopped; the same command continues from the last checkpoint", file=sys.stderr)
            sys.exit(130)

    app.run(guarded)
